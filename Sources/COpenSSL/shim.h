#ifndef DCM_COPENSSL_SHIM_H
#define DCM_COPENSSL_SHIM_H

// Of OpenSSL only libcrypto's digests. libcurl of the same distribution loads libcrypto anyway.
#include <openssl/evp.h>

#endif
