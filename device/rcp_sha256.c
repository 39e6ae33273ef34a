#include "rcp_sha256.h"

#include <string.h>

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotated(uint32_t x, unsigned n)
{
    return x >> n | x << (32u - n);
}

static uint32_t from_big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void to_big_endian(uint8_t *p, uint32_t value)
{
    for (unsigned i = 4; i-- > 0; value >>= 8)
        p[i] = (uint8_t)value;
}

/*
 * Rotations are written as chains, of which each step rotates what the one before gave: r(r(r(e, 14) ^ e, 5) ^ e, 6) is r(e, 6) ^ r(e, 11) ^
 * r(e, 25). That takes one register where the sum takes three. The working variables stay where they are, and the window on them moves:
 * of a, b, ... h in s[0], s[1], ... s[7] the next round finds all but two in their places when s is one less.
 */
static void compress(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[16], window[16 + 8];
    memcpy(window + 16, state, 32);
    for (unsigned i = 0; i < 16; i++)
        w[i] = from_big_endian(block + 4 * i);
    for (const uint32_t *k = ROUND; k < ROUND + 64; k += 16) {
        uint32_t *s = window + 16;
        for (unsigned i = 0; i < 16; i++) {
            const uint32_t a = s[0], e = s[4], x = w[(i + 1) & 15], y = w[(i + 14) & 15];
            uint32_t t = s[7] + k[i] + w[i];
            t += rotated(rotated(rotated(e, 14) ^ e, 5) ^ e, 6) + (s[6] ^ (e & (s[5] ^ s[6])));
            w[i] += (rotated(rotated(x, 11) ^ x, 7) ^ x >> 3) + w[(i + 9) & 15] + (rotated(rotated(y, 2) ^ y, 17) ^ y >> 10); /* for 16 on */
            s--;
            s[4] += t; /* d */
            s[0] = t + rotated(rotated(rotated(a, 9) ^ a, 11) ^ a, 2) + ((a & s[2]) | (s[3] & (a | s[2])));
        }
        memmove(window + 16, window, 32);
    }
    for (unsigned i = 0; i < 8; i++)
        state[i] += window[i];
}

void rcp_sha256_begin(rcp_sha256_t *s)
{
    static const uint32_t FIRST[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->state, FIRST, sizeof FIRST);
    s->size = 0;
}

void rcp_sha256_add(rcp_sha256_t *s, const uint8_t *data, uint32_t size)
{
    while (size > 0) {
        uint32_t at = s->size & 63u, n = 64u - at;
        if (n > size)
            n = size;
        memcpy(s->block + at, data, n);
        s->size += n;
        data += n;
        size -= n;
        if (at + n == 64u)
            compress(s->state, s->block);
    }
}

void rcp_sha256_end(rcp_sha256_t *s, uint8_t digest[32])
{
    static const uint8_t ZERO[64] = {0};
    const uint8_t one = 0x80;
    uint8_t bits[8];
    to_big_endian(bits, s->size >> 29);
    to_big_endian(bits + 4, s->size << 3);
    rcp_sha256_add(s, &one, 1);
    rcp_sha256_add(s, ZERO, (56u - s->size) & 63u);
    rcp_sha256_add(s, bits, 8);
    for (unsigned i = 0; i < 8; i++)
        to_big_endian(digest + 4 * i, s->state[i]);
}
