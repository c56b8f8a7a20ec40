import COpenSSL
package import Foundation

/// Checksums through libcrypto.
package struct ContentDigest: ~Copyable {
    package enum Algorithm: Sendable {
        /// What Orthanc stores with each file. Guards against damage, not against malice.
        case md5
        case sha256
    }

    private let context: OpaquePointer

    package init(_ algorithm: Algorithm) {
        guard let context = EVP_MD_CTX_new() else { fatalError("EVP_MD_CTX_new failed: out of memory") }
        self.context = context
        // "-fips": MD5 is refused where OpenSSL runs in FIPS mode, and this is no use of it for security.
        let name = algorithm == .md5 ? "MD5" : "SHA256"
        let method = EVP_MD_fetch(nil, name, "-fips")
        precondition(method != nil && EVP_DigestInit_ex2(context, method, nil) == 1, "libcrypto offers no \(name)")
        EVP_MD_free(method)
    }

    deinit {
        EVP_MD_CTX_free(context)
    }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        let done = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
        precondition(done == 1, "EVP_DigestUpdate failed")
    }

    /// Lower-case hexadecimal.
    package consuming func finish() -> String {
        var value = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        let done = EVP_DigestFinal_ex(context, &value, &length)
        precondition(done == 1, "EVP_DigestFinal_ex failed")
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: value.prefix(Int(length)).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    package static func hexadecimal(_ algorithm: Algorithm, of data: some ContiguousBytes) -> String {
        var digest = ContentDigest(algorithm)
        data.withUnsafeBytes { digest.update($0) }
        return digest.finish()
    }
}
