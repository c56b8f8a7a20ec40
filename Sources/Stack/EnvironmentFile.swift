package import Foundation

/// A `.env` file: `NAME=value` lines, `#` comments, optional `export ` and quotes, as docker compose reads it (without
/// interpolation).
package enum EnvironmentFile {
    /// - Returns: what the file sets; nothing when there is no such file.
    /// - Throws: ``StackError`` with the line's number for a line that is none of the above.
    package static func read(_ file: URL) throws -> [String: String] {
        guard FileSystem.exists(file) else { return [:] }
        let text: String
        do {
            text = try String(contentsOf: file, encoding: .utf8)
        } catch {
            throw StackError(.fileSystem, "\(file.path) could not be read as UTF-8 text; is it readable for you?")
        }
        return try parse(text, from: file.path)
    }

    static func parse(_ text: String, from path: String) throws -> [String: String] {
        var values: [String: String] = [:]
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            var rest = line.trimmingCharacters(in: .whitespaces)
            if rest.isEmpty || rest.hasPrefix("#") { continue }
            if rest.hasPrefix("export ") { rest = String(rest.dropFirst(7)).trimmingCharacters(in: .whitespaces) }
            guard let equals = rest.firstIndex(of: "="), isName(rest[..<equals].trimmingCharacters(in: .whitespaces)) else {
                throw StackError(.badSetting, "\(path), line \(index + 1): expected NAME=value or a comment that starts with #.")
            }
            let name = rest[..<equals].trimmingCharacters(in: .whitespaces)
            values[name] = value(rest[rest.index(after: equals)...].trimmingCharacters(in: .whitespaces))
        }
        return values
    }

    private static func isName(_ text: String) -> Bool {
        guard let first = text.first, first.isLetter || first == "_" else { return false }
        return text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-") }
    }

    private static func value(_ text: String) -> String {
        if let quote = text.first, quote == "\"" || quote == "'", let end = text.dropFirst().firstIndex(of: quote) {
            return String(text[text.index(after: text.startIndex)..<end])
        }
        // Without quotes a comment starts at " #".
        guard let comment = text.range(of: " #") else { return text }
        return text[..<comment.lowerBound].trimmingCharacters(in: .whitespaces)
    }

    /// Adds the lines of `missing` to the file, which only its owner may read from then on.
    package static func append(_ missing: [(name: String, value: String)], to file: URL, heading: String) throws {
        guard !missing.isEmpty else { return }
        var text = FileSystem.exists(file) ? (try? String(contentsOf: file, encoding: .utf8)) ?? "" : ""
        if !text.isEmpty, !text.hasSuffix("\n") { text += "\n" }
        text += "# \(heading)\n" + missing.map { "\($0.name)=\($0.value)\n" }.joined()
        try FileSystem.write(text, to: file, mode: 0o600)
    }
}
