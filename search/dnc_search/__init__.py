"""Low-complexity architecture search: networks that are good and cheap to train.

The successor of Deep-n-Cheap (S. Dey, S. C. Kanala, K. M. Chugg, P. A. Beerel, ACML 2020, arXiv
2004.00974): three stages, each judged by f = log10(f_p + w_c * f_c), with sparse networks among the
candidates.
"""
