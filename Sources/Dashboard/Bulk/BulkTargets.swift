import Accounts

/// Runs or jobs that an order is about, by id, and how each of them stood. A hundred thousand of them are six megabytes.
struct BulkTargets: Sendable, Sequence {
    /// Two lines each: neither an id nor a mark has a line break in it.
    private var lines: [UInt8] = []
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// Another one as soon as anything of it is another one.
    var fingerprint: String { SecretText.digest(lines) }

    mutating func append(_ target: String, mark: String) {
        lines += target.utf8
        lines.append(UInt8(ascii: "\n"))
        lines += mark.utf8
        lines.append(UInt8(ascii: "\n"))
        count += 1
    }

    func makeIterator() -> AnyIterator<(target: String, mark: String)> {
        var rest = lines[...]
        func next() -> String? {
            guard let end = rest.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
            defer { rest = rest[(end + 1)...] }
            return String(decoding: rest[..<end], as: UTF8.self)
        }
        return AnyIterator {
            guard let target = next(), let mark = next() else { return nil }
            return (target, mark)
        }
    }
}
