#ifndef DCM_CMD5_H
#define DCM_CMD5_H

#include <stddef.h>
#include <stdint.h>

// Eight MD5 chains side by side in vector registers. C, because Swift's vectors of this width do not become the machine's instructions (680
// MB/s against 1,450), and because C can ask for AVX2 where the processor has it (2,000).

#define DCM_MD5_LANES 8

// What one word of the chains' state is in each lane.
typedef struct {
    uint32_t word[4][DCM_MD5_LANES];
} dcm_md5_state;

// Takes `blocks` blocks of 64 bytes of each of the eight pieces into the state.
void dcm_md5_take(dcm_md5_state *state, const unsigned char *const *pieces, size_t blocks);

#endif
