"""The 64 Morse symbols of the published sets, in the published class order.

From Dey, Chugg, Beerel, "Morse Code Datasets for Machine Learning", ICCCNT 2018, arXiv:1807.04239
(repository MIT, copyright 2018 Sourya Dey). A letter and a mark stand for an accented letter:
H^ is h circumflex, U.. is u diaeresis. As published, H^ and ( share the code -.--. , so that no
classifier can pass 63/64 = 98.44 %.
"""

from __future__ import annotations

_PUBLISHED = """
J^ .---.   H^ -.--.   N~ --.--   CH ----    G^ --.-.   !  -.-.--  "  .-..-.  '  .----.
C, -.-..   )  -.--.-  (  -.--.   +  .-.-.   -  -....-  ,  --..--  /  -..-.   .  .-.-.-
1  .----   0  -----   3  ...--   2  ..---   5  .....   4  ....-   7  --...   6  -....
9  ----.   8  ---..   ;  -.-.-.  :  ---...  =  -...-   ?  ..--..  A  .-      @  .--.-.
C  -.-.    B  -...    E  .       D  -..     G  --.     F  ..-.    I  ..      H  ....
K  -.-     J  .---    M  --      L  .-..    O  ---     N  -.      Q  --.-    S  ...
U  ..-     T  -       W  .--     V  ...-    Y  -.--    X  -..-    Z  --..    _  ..--.-
U.. ..--   D- ..--.   O.. ---.   S^ ...-.   P  .--.    A.. .-.-   E` ..-..   R  .-.
"""

_WORDS = _PUBLISHED.split()
PUBLISHED: dict[str, str] = dict(zip(_WORDS[::2], _WORDS[1::2], strict=True))

# ( is the international code, so H^ gives way: to A grave, a real letter whose code was free and
# has as many dots and dashes, so that frame lengths keep their distribution
DISTINCT: dict[str, str] = {
    ("A`" if symbol == "H^" else symbol): (".--.-" if symbol == "H^" else code)
    for symbol, code in PUBLISHED.items()
}
