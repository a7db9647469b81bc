#ifndef WEIR_CFUZZER_H
#define WEIR_CFUZZER_H
#include <stddef.h>
#include <stdint.h>

/// libFuzzer as a library: reads its options from the arguments and calls back until it is done. The
/// callback gets bytes that are valid during the call, and returns 0.
int LLVMFuzzerRunDriver(int *argc, char ***argv,
                        int (*callback)(const uint8_t *data, size_t size));
#endif
