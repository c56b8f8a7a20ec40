/// A text of any length as a page shows it: a short one as it is, of a long one the beginning, and all of it behind a click.
struct FoldedText {
    /// What stands there at once.
    var head: String
    /// All of it; nil when that is the head.
    var whole: String?
    /// `40 lines, 3.4 kB`
    var size: String

    init(_ text: String, lines: Int = 6, characters: Int = 500) {
        let rows = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        // A click for a line or two more is not worth it.
        let isShort = rows.count <= lines + 2 && text.count <= characters + characters / 4
        head = isShort ? text : rows.prefix(lines).joined(separator: "\n")
        if !isShort, head.count > characters { head = String(head.prefix(characters)) }
        if !isShort { head += " …" }
        whole = isShort ? nil : text
        size = (rows.count == 1 ? "" : "\(Display.count(rows.count, "line")), ") + Display.bytes(Int64(text.utf8.count))
    }
}
