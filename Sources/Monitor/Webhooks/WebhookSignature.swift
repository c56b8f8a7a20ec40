import Accounts
import Foundation

/// How a receiver knows that a message is ours and was not changed: HMAC-SHA256 over `<id>.<timestamp>.<body>`, as standardwebhooks.com
/// has it.
struct WebhookSignature {
    /// The headers' names and values.
    let headers: [String: String]

    /// - Parameter secrets: `whsec_` and base 64, the newest first. The message is signed with each of them.
    init(id: String, body: String, secrets: [String], at now: Date) {
        let timestamp = String(Int(now.timeIntervalSince1970))
        let text = Array("\(id).\(timestamp).\(body)".utf8)
        let signatures = secrets.compactMap(Self.key).map { "v1," + Data(SecretText.code(text, key: $0)).base64EncodedString() }
        headers = ["webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures.joined(separator: " ")]
    }

    private static func key(_ secret: String) -> [UInt8]? {
        guard secret.hasPrefix("whsec_") else { return nil }
        return Data(base64Encoded: String(secret.dropFirst("whsec_".count))).map { [UInt8]($0) }
    }
}
