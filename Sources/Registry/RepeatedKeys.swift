/// Finds keys that stand twice in one object. JSON parsers keep the first or the last of them without a word, so that `"storing": true` may
/// have no effect. Takes a document that a parser has accepted.
struct RepeatedKeys {
    struct Finding: Equatable {
        var key: String
        /// Counted from 1.
        var line: Int
        /// Where the key stood first.
        var firstLine: Int
        /// The keys under which the object stands, from the outside; empty ones for lists and for the document.
        var path: [String] = []

        /// Whether it stands in the condition of an entry, which is another one without it.
        var isInCondition: Bool {
            let keys = path.filter { !$0.isEmpty && !["preServices", "postServices"].contains($0) }
            return keys.first == "when"
        }
    }

    private(set) var findings: [Finding] = []
    private var line = 1
    /// The keys of each object that is open, with their lines; nil for a list.
    private var open: [[String: Int]?] = []
    /// Under which key each of them stands.
    private var names: [String] = []
    private var name = ""

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
            case UInt8(ascii: "{"): enter([:])
            case UInt8(ascii: "["): enter(nil)
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                _ = open.popLast()
                _ = names.popLast()
            case UInt8(ascii: ","): name = ""
            case UInt8(ascii: ":"): if let last { note(String(decoding: last.text, as: UTF8.self), last.line) }
            default: break
            }
        }
    }

    private mutating func enter(_ keys: [String: Int]?) {
        open.append(keys)
        names.append(name)
        name = ""
    }

    private mutating func note(_ key: String, _ line: Int) {
        name = key
        guard let depth = open.indices.last, let keys = open[depth] else { return }
        if let firstLine = keys[key] {
            findings.append(Finding(key: key, line: line, firstLine: firstLine, path: names))
        } else {
            open[depth]?[key] = line
        }
    }
}
