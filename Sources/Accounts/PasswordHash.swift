import COpenSSL
import Foundation

/// Passwords as they are kept: scrypt (RFC 7914) through libcrypto, in the text form of password hashes,
/// `$scrypt$ln=15,r=8,p=3$<salt>$<hash>` in Base64 without padding.
package struct PasswordHash: Sendable {
    /// What one guess costs.
    package struct Cost: Sendable, Hashable {
        /// Two to this power are the blocks of memory.
        package var logN: Int
        package var r: Int
        package var p: Int

        package init(logN: Int, r: Int = 8, p: Int = 3) {
            self.logN = logN
            self.r = r
            self.p = p
        }

        /// 32 MiB and some tenths of a second, one of the equivalent settings that OWASP recommends. More memory instead of the
        /// three passes would take what the monitor may use as a whole.
        package static let standard = Cost(logN: 15)

        var memory: UInt64 { 128 * UInt64(r) << UInt64(logN) }

        /// What a damaged or planted hash must not make us do.
        var isAllowed: Bool { (4...20).contains(logN) && (1...32).contains(r) && (1...16).contains(p) && memory <= 1 << 28 }
    }

    package let cost: Cost

    package init(cost: Cost = .standard) {
        precondition(cost.isAllowed, "a cost that verify would refuse")
        self.cost = cost
    }

    /// A hash with a new salt. Takes its time: not for the threads that serve others.
    package func make(_ password: String) -> String {
        var generator = SystemRandomNumberGenerator()
        let salt = (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        guard let hash = Self.derive(Self.bytes(password), salt, cost, length: 32) else {
            preconditionFailure("EVP_PBE_scrypt failed: out of memory?")
        }
        return Self.text(cost, salt, hash)
    }

    /// False also for a hash that is none of ours.
    package func verify(_ password: String, against text: String) -> Bool {
        guard let (cost, salt, expected) = Self.parse(text),
            let given = Self.derive(Self.bytes(password), salt, cost, length: expected.count)
        else { return false }
        return given.withUnsafeBytes { left in
            expected.withUnsafeBytes { right in CRYPTO_memcmp(left.baseAddress, right.baseAddress, expected.count) == 0 }
        }
    }

    /// Whether `text` was made with another cost than today's.
    package func isOutdated(_ text: String) -> Bool { Self.parse(text)?.cost != cost }

    /// The same letters typed on different keyboards are the same password.
    private static func bytes(_ password: String) -> [UInt8] { Array(password.precomposedStringWithCompatibilityMapping.utf8) }

    /// - Returns: nil for what scrypt refuses, such as a cost that does not go together, and where memory is short.
    private static func derive(_ password: [UInt8], _ salt: [UInt8], _ cost: Cost, length: Int) -> [UInt8]? {
        var key = [UInt8](repeating: 0, count: length)
        let password = password.map { CChar(bitPattern: $0) }
        let done = EVP_PBE_scrypt(
            password, password.count, salt, salt.count, 1 << UInt64(cost.logN), UInt64(cost.r), UInt64(cost.p),
            // Above what it says it needs, some more for its own tables.
            cost.memory + UInt64(cost.p) * 128 * UInt64(cost.r) + 1 << 20, &key, key.count)
        return done == 1 ? key : nil
    }

    // MARK: Text

    private static func text(_ cost: Cost, _ salt: [UInt8], _ hash: [UInt8]) -> String {
        "$scrypt$ln=\(cost.logN),r=\(cost.r),p=\(cost.p)$\(base64(salt))$\(base64(hash))"
    }

    private static func parse(_ text: String) -> (cost: Cost, salt: [UInt8], hash: [UInt8])? {
        let parts = text.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].isEmpty, parts[1] == "scrypt" else { return nil }
        var numbers: [Substring: Int] = [:]
        for pair in parts[2].split(separator: ",") {
            let sides = pair.split(separator: "=")
            guard sides.count == 2, let number = Int(sides[1]) else { return nil }
            numbers[sides[0]] = number
        }
        guard let logN = numbers["ln"], let r = numbers["r"], let p = numbers["p"], let salt = bytes(base64: parts[3]),
            let hash = bytes(base64: parts[4])
        else { return nil }
        let cost = Cost(logN: logN, r: r, p: p)
        return cost.isAllowed && (16...64).contains(hash.count) && (8...64).contains(salt.count) ? (cost, salt, hash) : nil
    }

    private static func base64(_ bytes: [UInt8]) -> String { Data(bytes).base64EncodedString().replacing("=", with: "") }

    private static func bytes(base64 text: Substring) -> [UInt8]? {
        let padded = text + String(repeating: "=", count: (4 - text.count % 4) % 4)
        return Data(base64Encoded: String(padded)).map { [UInt8]($0) }
    }
}
