#ifndef DCM_COPENSSL_SHIM_H
#define DCM_COPENSSL_SHIM_H

// Of OpenSSL only libcrypto: digests, scrypt. libcurl of the same distribution loads libcrypto anyway.
#include <openssl/crypto.h>
#include <openssl/evp.h>

#endif
