import Foundation
import Jobs

/// One settings file as it stands on disk.
struct SettingsFile {
    struct Unreadable: Error {
        /// One sentence.
        let message: String
        var isMissing = false
        /// Whether a pre-service may stand there: what nobody has read in full may be one.
        var mayHoldPreService = true
    }

    let value: JSONValue
    let repeatedKeys: [RepeatedKeys.Finding]
    /// When it cannot be trusted after all.
    let mayHoldPreService: Bool

    static func read(_ file: URL) -> Result<SettingsFile, Unreadable> {
        let bytes: Data
        do {
            bytes = try Data(contentsOf: file)
        } catch CocoaError.fileReadNoSuchFile {
            return .failure(Unreadable(message: "the file does not exist.", isMissing: true))
        } catch CocoaError.fileReadNoPermission {
            return .failure(Unreadable(message: "the file may not be read by this process."))
        } catch {
            return .failure(Unreadable(message: "the file cannot be read (\((error as NSError).localizedDescription))."))
        }
        do {
            let value = try JSONValue(json: bytes)
            let repeated = RepeatedKeys(in: bytes).findings
            return .success(
                SettingsFile(value: value, repeatedKeys: repeated, mayHoldPreService: !repeated.isEmpty && mayHoldPreService(bytes)))
        } catch {
            return .failure(
                Unreadable(message: "the file is not JSON: \(complaint(about: bytes)).", mayHoldPreService: mayHoldPreService(bytes)))
        }
    }

    /// Whether the text of a file that cannot be trusted may say `"stage": "pre"`, or go on and say it.
    static func mayHoldPreService(_ bytes: Data) -> Bool {
        let text = String(decoding: bytes, as: UTF8.self).lowercased()
        let end = text.last { !$0.isWhitespace }
        guard end == "}" || end == "]" else { return true }
        // However it is quoted or spelled: a letter that is escaped could be any.
        return text.contains("pre\"") || text.contains("pre'") || text.contains("stage") || text.contains("\\u")
    }

    private static func complaint(about bytes: Data) -> String {
        let blanks: Set<UInt8> = [0x20, 0x09, 0x0a, 0x0d]
        guard bytes.contains(where: { !blanks.contains($0) }) else { return "it is empty" }
        let report = parserReport(on: bytes)
        if report.contains("end of file") { return "it ends too early, with a bracket or a quotation mark that is not closed" }
        // An offset at the end of the parser's sentence.
        guard let offset = report.split(whereSeparator: { !$0.isASCII || !$0.isNumber }).last.flatMap({ Int($0) }) else {
            return "a parser does not accept it"
        }
        let before = bytes.prefix(offset)
        let rest = bytes.dropFirst(offset)
        let line = before.count { $0 == 0x0a } + 1
        let column = before.count - (before.lastIndex(of: 0x0a).map { $0 + 1 } ?? 0) + 1
        let text = String(decoding: rest.prefix { $0 != 0x0a && $0 != 0x0d }, as: UTF8.self)
        let shown = text.count <= 40 ? text : text.prefix(37) + "..."
        var complaint = "look at line \(line), column \(column), and just before it"
        if !shown.isEmpty { complaint += "; there stands \(shown)" }
        if text.hasPrefix("/") || text.hasPrefix("#") { complaint += " (JSON has no comments: a key that starts with _ may hold one)" }
        if text.hasPrefix("'") { complaint += " (JSON wants double quotation marks)" }
        return complaint
    }

    /// What `JSONSerialization` says; `JSONDecoder` does not tell where it gave up.
    private static func parserReport(on bytes: Data) -> String {
        do {
            _ = try JSONSerialization.jsonObject(with: bytes, options: .fragmentsAllowed)
            return ""
        } catch {
            return (error as NSError).userInfo["NSDebugDescription"] as? String ?? ""
        }
    }
}
