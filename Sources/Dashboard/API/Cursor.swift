import Foundation

/// Where the next page of a list begins.
///
/// To others it is opaque. It holds the list, a fingerprint of the filter and the last key, with a checksum: what was not handed out for this very
/// list is refused instead of answered with a page of something else. It is no secret, and gives no right.
struct Cursor: Sendable {
    /// Such as `runs`.
    var list: String
    /// Everything that decides what is in the list.
    var filter: String

    init(_ list: String, filter: String = "") {
        self.list = list
        self.filter = filter
    }

    func text(_ key: String?) -> String? {
        guard let key else { return nil }
        return Data("\(checksum(key)).\(key)".utf8).base64EncodedString()
            .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    /// - Parameter text: what was asked with; nil begins at the beginning.
    func key(_ text: String?, parameter: String = "cursor") throws(Problem) -> String? {
        guard let text else { return nil }
        let standard = text.replacing("-", with: "+").replacing("_", with: "/")
        let padded = standard + String(repeating: "=", count: (4 - standard.utf8.count % 4) % 4)
        guard let data = Data(base64Encoded: padded), let plain = String(data: data, encoding: .utf8),
            let dot = plain.firstIndex(of: "."), case let key = String(plain[plain.index(after: dot)...]), checksum(key) == plain[..<dot]
        else {
            throw .parameter(parameter, text, allowed: "the 'next' of an earlier page of this list, with the same filter")
        }
        return key
    }

    private func checksum(_ key: String) -> String {
        let bytes = Array("1\u{0}\(list)\u{0}\(filter)\u{0}\(key)".utf8)
        return String(bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }, radix: 36)
    }
}
