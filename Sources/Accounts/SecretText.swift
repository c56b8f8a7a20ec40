import COpenSSL
import Foundation

/// Random secrets, and what is kept of them.
package enum SecretText {
    private static let letters = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

    /// 43 letters and digits hold 256 random bits.
    package static func make(length: Int = 43) -> String {
        var generator = SystemRandomNumberGenerator()
        return String((0..<length).map { _ in letters[Int.random(in: letters.indices, using: &generator)] })
    }

    package static func bytes(_ count: Int = 32) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    /// An API token: `dcm_<id>_<secret>`. The id names it in lists; the prefix lets programs that look for leaked secrets find it.
    package static func makeToken() -> (id: String, token: String) {
        let id = make(length: 8)
        return (id, "dcm_\(id)_\(make())")
    }

    /// SHA-256 in hexadecimal. For secrets with 256 random bits, which nobody can guess: passwords need `PasswordHash`.
    package static func digest(_ text: String) -> String { digest(Array(text.utf8)) }

    package static func digest(_ bytes: [UInt8]) -> String { hexadecimal(hash(bytes)) }

    /// HMAC-SHA-256 in hexadecimal (RFC 2104).
    package static func authenticated(_ text: String, key: [UInt8]) -> String { authenticated(Array(text.utf8), key: key) }

    package static func authenticated(_ message: [UInt8], key: [UInt8]) -> String { hexadecimal(code(message, key: key)) }

    /// HMAC-SHA-256, its 32 bytes.
    package static func code(_ message: [UInt8], key: [UInt8]) -> [UInt8] {
        let block = 64
        var key = key.count > block ? hash(key) : key
        key += [UInt8](repeating: 0, count: block - key.count)
        let inner = hash(key.map { $0 ^ 0x36 } + message)
        return hash(key.map { $0 ^ 0x5c } + inner)
    }

    private static func hash(_ bytes: [UInt8]) -> [UInt8] {
        var value = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        let done = EVP_Digest(bytes, bytes.count, &value, &length, EVP_sha256(), nil)
        precondition(done == 1, "EVP_Digest failed")
        return Array(value.prefix(Int(length)))
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
