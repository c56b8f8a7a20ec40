/// Reads a page as strictly as XML is read: every element closed, every attribute quoted, every character that means something to a browser
/// written as an entity where it means nothing. Text that broke out of its place does not pass.
struct HTMLCheck {
    /// What is wrong, each with the text around it.
    private(set) var problems: [String] = []

    private var scalars: [Unicode.Scalar]
    private var place = 0
    private var open: [String] = []

    private static let empty: Set<String> = ["meta", "link", "input", "img", "br", "hr"]
    private static let entities: Set<String> = ["lt", "gt", "amp", "quot", "#39", "nbsp"]

    init(_ page: String) {
        scalars = Array(page.unicodeScalars)
        while place < scalars.count, problems.count < 5 { step() }
        if !open.isEmpty { report("not closed: \(open)") }
    }

    private mutating func step() {
        let scalar = scalars[place]
        if scalar == "<" { return tag() }
        if scalar == "&" { return entity() }
        check(scalar)
        place += 1
    }

    private mutating func tag() {
        if starts("<!doctype html>") {
            place += 15
            return
        }
        place += 1
        let isEnd = take("/")
        let name = word { ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0) }
        guard !name.isEmpty else { return report("a '<' that begins no tag") }
        if isEnd {
            guard take(">") else { return report("</\(name) without its end") }
            if open.last == name { open.removeLast() } else { report("</\(name)> closes \(open.last ?? "nothing")") }
            return
        }
        var attributes: [String: String] = [:]
        while place < scalars.count {
            let isSpaced = skipSpace()
            if take(">") { break }
            if starts("/>") {
                place += 2
                return finish(name, attributes, isClosed: true)
            }
            guard isSpaced else { return report("<\(name): attributes without a space between them") }
            let key = word { ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0) || $0 == "-" || $0 == ":" }
            guard !key.isEmpty else { return report("<\(name): no attribute") }
            guard attributes[key] == nil else { return report("<\(name): \(key) twice") }
            attributes[key] = ""
            guard take("=") else { continue }
            guard take("\"") else { return report("<\(name) \(key): not quoted") }
            var value = ""
            while place < scalars.count, scalars[place] != "\"" {
                if scalars[place] == "<" { return report("<\(name) \(key): a '<' in its value") }
                if scalars[place] == "&" {
                    let start = place
                    entity()
                    value.unicodeScalars.append(contentsOf: scalars[start..<min(place, scalars.count)])
                    continue
                }
                check(scalars[place])
                value.unicodeScalars.append(scalars[place])
                place += 1
            }
            place += 1
            attributes[key] = value
        }
        finish(name, attributes, isClosed: false)
    }

    private mutating func finish(_ name: String, _ attributes: [String: String], isClosed: Bool) {
        for (key, value) in attributes {
            if key.hasPrefix("on") || key == "style" || key == "srcdoc" { report("<\(name) has \(key)") }
            // Everything that is followed or loaded is ours.
            let leads = ["href", "src", "action", "formaction"].contains(key)
            if leads, !value.hasPrefix("/") && !value.hasPrefix("#") || value.hasPrefix("//") {
                report("<\(name) \(key) leads to '\(value.prefix(60))'")
            }
        }
        if name == "script" && attributes["src"]?.hasPrefix("/assets/") != true { report("a script of its own") }
        if ["iframe", "object", "embed", "base", "frame"].contains(name) { report("<\(name)") }
        if !isClosed && !Self.empty.contains(name) { open.append(name) }
    }

    private mutating func entity() {
        let start = place
        place += 1
        let name = word { $0 != ";" && $0 != "<" && $0 != "&" && $0 != " " && $0 != "\"" }
        guard take(";"), Self.entities.contains(name) else {
            place = start + 1
            return report("an '&' that begins no entity")
        }
    }

    /// Neither control characters nor what turns the direction of the text around it.
    private mutating func check(_ scalar: Unicode.Scalar) {
        let isBad =
            switch scalar {
            case "\t", "\n", "\r": false
            case "\u{0}"..."\u{1F}", "\u{7F}"..."\u{9F}", "\u{202A}"..."\u{202E}", "\u{2066}"..."\u{2069}": true
            default: false
            }
        if isBad { report("the character \(String(scalar.value, radix: 16))") }
    }

    private mutating func report(_ problem: String) {
        let around = String(String.UnicodeScalarView(scalars[max(0, place - 60)..<min(scalars.count, place + 60)]))
        problems.append("\(problem) at …\(around)…")
        place += 1
    }

    private func starts(_ text: String) -> Bool {
        let wanted = Array(text.unicodeScalars)
        return place + wanted.count <= scalars.count && Array(scalars[place..<(place + wanted.count)]) == wanted
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard place < scalars.count, scalars[place] == scalar else { return false }
        place += 1
        return true
    }

    private mutating func word(_ belongs: (Unicode.Scalar) -> Bool) -> String {
        var word = ""
        while place < scalars.count, belongs(scalars[place]) {
            word.unicodeScalars.append(scalars[place])
            place += 1
        }
        return word
    }

    private mutating func skipSpace() -> Bool {
        let start = place
        while place < scalars.count, [" ", "\n", "\t"].contains(scalars[place]) { place += 1 }
        return place > start
    }
}
