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
        let shown = keys.prefix(Self.most).map { $0.count > Self.longest ? $0.prefix(Self.longest) + "…" : $0 }.joined(separator: ", ")
        return keys.count > Self.most ? "\(shown) and \(keys.count - Self.most) more" : shown
    }

    private static let most = 20
    private static let longest = 40
}
