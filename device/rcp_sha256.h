/* SHA-256 (FIPS 180-4) in software, for devices without hardware for it. */
#ifndef RCP_SHA256_H
#define RCP_SHA256_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint32_t state[8];
    uint32_t size; /* bytes so far: images are smaller than 4 GiB */
    uint8_t block[64];
} rcp_sha256_t;

void rcp_sha256_begin(rcp_sha256_t *s);
void rcp_sha256_add(rcp_sha256_t *s, const uint8_t *data, uint32_t size);
void rcp_sha256_end(rcp_sha256_t *s, uint8_t digest[32]);

#ifdef __cplusplus
}
#endif
#endif
