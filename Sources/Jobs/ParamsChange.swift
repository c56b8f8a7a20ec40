/// What may be said of a change of params where values may be patient data: which keys it is about.
package struct ParamsChange: Sendable, Hashable {
    /// Keys of the outermost object that were added, removed or got another value, sorted.
    package var keys: [String]

    package init(from old: JSONValue, to new: JSONValue) {
        let (before, after) = (old.object ?? [:], new.object ?? [:])
        keys = Set(before.keys).union(after.keys).filter { before[$0] != after[$0] }.sorted()
    }

    /// `mode, threshold`, or `none`; cut where it would be long.
    package var words: String {
        guard !keys.isEmpty else { return "none" }
        let shown = keys.prefix(Self.most).map(Self.shown).joined(separator: ", ")
        return keys.count > Self.most ? "\(shown) and \(keys.count - Self.most) more" : shown
    }

    /// Cut by scalars: one character can be made of any number of them.
    private static func shown(_ key: String) -> String {
        let scalars = key.unicodeScalars.lazy.filter {
            $0.properties.generalCategory != .control && $0.properties.generalCategory != .format
        }
        let kept = Array(scalars.prefix(longest + 1))
        var text = String.UnicodeScalarView()
        text.append(contentsOf: kept.prefix(longest))
        return String(text) + (kept.count > longest ? "…" : "")
    }

    private static let most = 20
    private static let longest = 40
}
