// What the tests ask of the emulator, through ctypes.
#include "emulator.hpp"

extern "C" {

// Count wavefronts of shared memory from here on, from zero; or stop.
void emulator_count_banks(int counted) { emulator::banks = {counted != 0, 0, 0}; }
int64_t emulator_wavefronts() { return emulator::banks.wavefronts; }
int64_t emulator_least_wavefronts() { return emulator::banks.least; }
}
