// Words of the machine's number format, to the bit; the Python oracle is dnc_hw/fixed_point.py.
//
// | name     | meaning                                                                  |
// |----------|--------------------------------------------------------------------------|
// | Word     | int32_t where a product of two words fits it (16 bits and less), int64_t |
// | fraction | fraction bits, F                                                         |
// | floor    | clips a product before it is rounded; below every product if not wanted  |
// | clipped  | gains 1 where the result is not the exact, rounded one                   |
#pragma once

#include <cstdint>
#include <limits>

namespace dnc::hw {

template <class Word>
struct Arithmetic {
  int fraction;
  Word smallest, largest, floor;

  Arithmetic(int integer_bits, int fraction_bits, bool rounds_after_clip)
      : fraction(fraction_bits),
        smallest(-(Word(1) << (integer_bits + fraction_bits))),
        largest(-(smallest + 1)),
        floor(rounds_after_clip ? smallest : std::numeric_limits<Word>::min() / 2) {}

  // inlined everywhere, so that no copy compiled for one instruction set is linked for another
  [[gnu::always_inline]] Word clip(Word wide) const {
    const Word low = wide < smallest ? smallest : wide;
    return low > largest ? largest : low;
  }

  [[gnu::always_inline]] Word add(Word a, Word b, Word& clipped) const {
    const Word sum = clip(a + b);
    clipped += sum != a + b;
    return sum;
  }

  [[gnu::always_inline]] Word multiply(Word a, Word b) const {
    Word ignored = 0;
    return multiply(a, b, ignored);
  }

  [[gnu::always_inline]] Word multiply(Word a, Word b, Word& clipped) const {
    const Word product = a * b;
    const Word half_bit = (product >> (fraction - 1)) & 1;
    const Word whole = product >> fraction;
    const Word word = clip((whole < floor ? floor : whole) + half_bit);
    clipped += word != whole + half_bit;
    return word;
  }

  // -eta * delta for learning-rate code `code`
  [[gnu::always_inline]] Word step(Word delta, int code) const {
    if (code == 0) return 0;
    const Word negated = clip(-delta);
    return code == 1 ? negated : (negated >> (code - 1)) + ((negated >> (code - 2)) & 1);
  }
};

}  // namespace dnc::hw
