#include "md5.h"

#include <string.h>

typedef uint32_t dcm_md5_lanes __attribute__((vector_size(4 * DCM_MD5_LANES)));

// RFC 1321: the fractions of sin 1, sin 2, ...; how far each of the four steps of a round is rotated.
static const uint32_t dcm_md5_sines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
static const int dcm_md5_rotations[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

__attribute__((always_inline)) static inline void dcm_md5_run(
    dcm_md5_state *state, const unsigned char *const pieces[DCM_MD5_LANES], size_t blocks
) {
    dcm_md5_lanes chain[4];
    memcpy(chain, state, sizeof chain);
    for (size_t block = 0; block < blocks; block++) {
        dcm_md5_lanes words[16];
        for (int word = 0; word < 16; word++) {
            for (int lane = 0; lane < DCM_MD5_LANES; lane++) {
                uint32_t value;
                memcpy(&value, pieces[lane] + block * 64 + word * 4, sizeof value);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
                value = __builtin_bswap32(value);
#endif
                words[word][lane] = value;
            }
        }
        dcm_md5_lanes a = chain[0], b = chain[1], c = chain[2], d = chain[3];
#pragma clang loop unroll(full)
        for (int step = 0; step < 64; step++) {
            dcm_md5_lanes mixed;
            int word;
            if (step < 16) {
                mixed = d ^ (b & (c ^ d));
                word = step;
            } else if (step < 32) {
                mixed = c ^ (d & (b ^ c));
                word = (5 * step + 1) & 15;
            } else if (step < 48) {
                mixed = b ^ c ^ d;
                word = (3 * step + 5) & 15;
            } else {
                mixed = c ^ (b | ~d);
                word = (7 * step) & 15;
            }
            mixed += a + words[word] + dcm_md5_sines[step];
            int rotation = dcm_md5_rotations[step / 16][step % 4];
            a = d;
            d = c;
            c = b;
            b += (mixed << rotation) | (mixed >> (32 - rotation));
        }
        chain[0] += a;
        chain[1] += b;
        chain[2] += c;
        chain[3] += d;
    }
    memcpy(state, chain, sizeof chain);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void dcm_md5_run_avx2(
    dcm_md5_state *state, const unsigned char *const pieces[DCM_MD5_LANES], size_t blocks
) {
    dcm_md5_run(state, pieces, blocks);
}
#endif

void dcm_md5_take(dcm_md5_state *state, const unsigned char *const *pieces, size_t blocks) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        dcm_md5_run_avx2(state, pieces, blocks);
        return;
    }
#endif
    dcm_md5_run(state, pieces, blocks);
}
