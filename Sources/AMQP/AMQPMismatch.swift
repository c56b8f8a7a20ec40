/// What a broker says when it refuses a declaration (406): which property of which exchange or queue, what we sent and what there is.
///
/// Read from the broker's text, which is the only place where it stands. RabbitMQ 3.10 to 4.3 write it alike; the text ends at 255
/// bytes, so a value may be missing.
package struct AMQPMismatch: Sendable, Hashable {
    /// What the declaration was of.
    package enum Kind: String, Sendable {
        case queue, exchange
    }

    /// What the declaration was of.
    package var kind: Kind
    /// The name of the queue or exchange, cut when the text was.
    package var name: String
    /// Nil where the text was cut short.
    package var virtualHost: String?
    /// `durable`, `auto_delete`, `type` or the name of an argument, as `x-max-priority`.
    package var argument: String
    /// What we sent, as text; nil when we sent none or the text does not say.
    package var wanted: String?
    /// What there is, as text; nil when there is none or the text does not say.
    package var current: String?
    /// What is wrong with an argument that the broker refuses whatever there is: its words after the name.
    package var objection: String?
}

extension AMQPMismatch {
    /// - Parameter text: `reply-text` of the close; nil for one of another shape.
    init?(_ text: String) {
        var rest = Substring(text)
        func skip(to mark: String) -> Bool {
            guard let range = rest.firstRange(of: mark) else { return false }
            rest = rest[range.upperBound...]
            return true
        }
        /// Up to the mark; without it everything, for the text may have been cut.
        func take(to mark: String) -> (text: Substring, isWhole: Bool) {
            guard let range = rest.firstRange(of: mark) else {
                defer { rest = "" }
                return (rest, false)
            }
            defer { rest = rest[range.upperBound...] }
            return (rest[..<range.lowerBound], true)
        }

        // inequivalent arg 'A' for queue 'Q' in vhost 'V': received R but current is C
        // invalid arg 'A' for queue 'Q' in vhost 'V': reason
        // invalid arg 'A' for queue 'Q' in vhost 'V' of queue type T
        guard let start = rest.firstRange(of: "inequivalent arg '") ?? rest.firstRange(of: "invalid arg '") else { return nil }
        let isInequivalent = rest[start].hasPrefix("inequivalent")
        rest = rest[start.upperBound...]
        let argument = take(to: "' for ")
        let kind = take(to: " '")
        guard argument.isWhole, kind.isWhole, let kind = Kind(rawValue: String(kind.text)) else { return nil }
        let name = take(to: "' in vhost '")
        self.kind = kind
        self.argument = String(argument.text)
        self.name = String(name.text)
        guard name.isWhole else {
            // Cut inside of the mark: its beginning is not part of the name.
            let mark = "' in vhost '"
            if let cut = (1..<mark.count).last(where: { name.text.hasSuffix(mark.prefix($0)) }) {
                self.name = String(name.text.dropLast(cut))
            }
            return
        }
        let host = take(to: "'")
        guard host.isWhole else { return }
        virtualHost = String(host.text)
        guard isInequivalent else {
            objection = rest.hasPrefix(": ") ? String(rest.dropFirst(2)) : rest.hasPrefix(" ") ? String(rest.dropFirst()) : nil
            return
        }
        guard skip(to: "received ") else { return }
        let received = take(to: " but current is ")
        guard received.isWhole else { return }
        wanted = Self.value(received.text)
        current = Self.value(rest)
    }

    /// `'5'`, `the value '5' of type 'long'` or `none`.
    private static func value(_ text: Substring) -> String? {
        var text = text
        if text.hasPrefix("the value '") {
            text = text.dropFirst("the value '".count)
            guard let end = text.firstRange(of: "' of type '") else { return nil }
            return String(text[..<end.lowerBound])
        }
        guard text.first == "'", text.count > 1, text.last == "'" else { return nil }
        return String(text.dropFirst().dropLast())
    }
}
