/// What a program printed for a terminal, as HTML: colours become classes, everything else is text.
///
/// No byte of the program reaches the page unescaped: class names come from the table here, never from the text.
struct TerminalText: Sendable, Hashable {
    /// Foreground 0...15, or nil.
    private var colour: Int?
    private var isBold = false
    private var isFaint = false
    private var isUnderlined = false

    init() {}

    /// - Parameter state: of ``state``, from the piece before.
    init(state: String) {
        for code in state.split(separator: ".").prefix(8).compactMap({ Int($0) }) { apply([code]) }
    }

    /// What a later piece goes on with: codes with dots.
    var state: String {
        var codes: [Int] = []
        if isBold { codes.append(1) }
        if isFaint { codes.append(2) }
        if isUnderlined { codes.append(4) }
        if let colour { codes.append(colour < 8 ? 30 + colour : 82 + colour) }
        return codes.map(String.init).joined(separator: ".")
    }

    /// - Parameter stream: its class around everything.
    mutating func html(_ text: String, stream: String) -> String {
        var html = "<span class=\"\(stream)\">"
        var plain = String.UnicodeScalarView()
        func flush(_ style: String, into html: inout String) {
            guard !plain.isEmpty else { return }
            let text = Self.settled(String(plain))
            html += style.isEmpty ? Self.marked(text) : "<b class=\"\(style)\">\(HTMLText.escape(text))</b>"
            plain.removeAll(keepingCapacity: true)
        }
        var scalars = text.unicodeScalars.makeIterator()
        while let scalar = scalars.next() {
            guard scalar == "\u{1B}" else {
                plain.append(scalar)
                continue
            }
            guard let kind = scalars.next() else { break }
            if kind == "]" {
                // A title or a link: up to the bell or the string terminator. One without an end hides its own line and no more.
                while let next = scalars.next(), next != "\u{7}" {
                    if next == "\u{1B}" {
                        _ = scalars.next()
                        break
                    }
                    if next == "\n" {
                        plain.append(next)
                        break
                    }
                }
                continue
            }
            guard kind == "[" else { continue }
            var parameters = ""
            while let next = scalars.next() {
                if ("\u{40}"..."\u{7E}").contains(next) {
                    if next == "m" {
                        flush(style, into: &html)
                        apply(parameters.split(separator: ";", omittingEmptySubsequences: false).prefix(16).map { Int($0) ?? 0 })
                    }
                    break
                }
                // An escape that was cut off: what follows is text again.
                guard ("\u{20}"..."\u{3F}").contains(next) else {
                    plain.append(next)
                    break
                }
                if parameters.utf8.count < 64 { parameters.unicodeScalars.append(next) }
            }
        }
        flush(style, into: &html)
        return html + "</span>"
    }

    private var style: String {
        var names: [String] = []
        if let colour { names.append("c\(colour)") }
        if isBold { names.append("cb") }
        if isFaint { names.append("cf") }
        if isUnderlined { names.append("cu") }
        return names.joined(separator: " ")
    }

    private mutating func apply(_ codes: [Int]) {
        var rest = codes[...]
        while let code = rest.popFirst() {
            switch code {
            case 0: self = TerminalText()
            case 1: isBold = true
            case 2: isFaint = true
            case 4: isUnderlined = true
            case 22: (isBold, isFaint) = (false, false)
            case 24: isUnderlined = false
            case 30...37: colour = code - 30
            case 90...97: colour = code - 82
            case 39: colour = nil
            case 38:
                // 256 colours or 24 bits: the sixteen that have names are kept, others are as the text.
                if rest.popFirst() == 5 {
                    let index = rest.popFirst() ?? 0
                    colour = (0...15).contains(index) ? index : nil
                } else {
                    rest = rest.dropFirst(3)
                    colour = nil
                }
            case 48: rest = rest.popFirst() == 5 ? rest.dropFirst() : rest.dropFirst(3)
            default: break
            }
        }
    }

    /// Escaped, with the lines that say of themselves that something is wrong set apart. Which stream a line came by says nothing of it:
    /// Python logs everything to the standard error.
    private static func marked(_ text: String) -> String {
        guard text.utf8.count >= 4 else { return HTMLText.escape(text) }
        var html = ""
        var rest = text[...]
        while !rest.isEmpty {
            let end = rest.unicodeScalars.firstIndex(of: "\n") ?? rest.endIndex
            let line = String(rest[..<end])
            let escaped = HTMLText.escape(line)
            html += level(of: line).map { "<b class=\"\($0)\">\(escaped)</b>" } ?? escaped
            rest = rest[end...]
            if rest.unicodeScalars.first == "\n" {
                html += "\n"
                rest = Substring(rest.unicodeScalars.dropFirst())
            }
        }
        return html
    }

    /// `error` or `warning`, by the first word that names a level.
    static func level(of line: String) -> String? {
        if line.hasPrefix("Traceback (most recent call last)") { return "error" }
        var word: [UInt8] = []
        for byte in line.utf8.prefix(120) + [0x20] {
            if (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) {
                word.append(byte)
                continue
            }
            defer { word.removeAll(keepingCapacity: true) }
            switch String(decoding: word, as: UTF8.self) {
            case "ERROR", "CRITICAL", "FATAL": return "error"
            case "WARNING", "WARN": return "warning"
            // As programs that are no loggers begin a line: `Warning: ...`
            case "Error" where byte == 0x3A: return "error"
            case "Warning" where byte == 0x3A: return "warning"
            case "INFO", "DEBUG", "NOTICE", "TRACE": return nil
            default: continue
            }
        }
        return nil
    }

    /// A line that the program wrote over itself, as progress bars do, shows what it said last.
    private static func settled(_ text: String) -> String {
        guard text.unicodeScalars.contains("\r") else { return text }
        return text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            let parts = line.split(separator: "\r", omittingEmptySubsequences: true)
            return parts.last.map { String(String.UnicodeScalarView($0)) } ?? ""
        }.joined(separator: "\n")
    }
}
