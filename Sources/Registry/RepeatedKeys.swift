/// Finds keys that stand twice in one object. JSON parsers keep the first or the last of them without a word, so that `"storing": true` may
/// have no effect. Takes a document that a parser has accepted.
struct RepeatedKeys {
    struct Finding: Equatable {
        var key: String
        /// Counted from 1.
        var line: Int
        /// Where the key stood first.
        var firstLine: Int
    }

    private(set) var findings: [Finding] = []
    private var line = 1
    /// The keys of each object that is open, with their lines; nil for a list.
    private var open: [[String: Int]?] = []

    init(in document: some Sequence<UInt8>) {
        var text: [UInt8]?
        var isEscaped = false
        var last: (text: [UInt8], line: Int)?
        for byte in document {
            if byte == UInt8(ascii: "\n") { line += 1 }
            if text != nil {
                if !isEscaped, byte == UInt8(ascii: "\"") {
                    last = text.map { ($0, line) }
                    text = nil
                } else {
                    text?.append(byte)
                    isEscaped = !isEscaped && byte == UInt8(ascii: "\\")
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): text = []
            case UInt8(ascii: "{"): open.append([:])
            case UInt8(ascii: "["): open.append(nil)
            case UInt8(ascii: "}"), UInt8(ascii: "]"): _ = open.popLast()
            case UInt8(ascii: ":"): if let last { note(String(decoding: last.text, as: UTF8.self), last.line) }
            default: break
            }
        }
    }

    private mutating func note(_ key: String, _ line: Int) {
        guard let depth = open.indices.last, let keys = open[depth] else { return }
        if let firstLine = keys[key] {
            findings.append(Finding(key: key, line: line, firstLine: firstLine))
        } else {
            open[depth]?[key] = line
        }
    }
}
