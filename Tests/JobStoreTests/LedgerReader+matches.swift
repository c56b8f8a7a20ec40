import JobStore

/// What matches, whole: production goes through it one by one.
extension LedgerReader {
    func matches(
        _ filter: LedgerRunFilter, ids: [String]? = nil, isOfResource: Bool = false, limit: Int
    ) async throws -> [LedgerMatch] {
        try await matches(filter, ids: ids, isOfResource: isOfResource, limit: limit, into: []) { found, match, _ in found.append(match) }
    }

    func matches(_ filter: LedgerJobFilter, ids: [String]? = nil, limit: Int) async throws -> [LedgerMatch] {
        try await matches(filter, ids: ids, limit: limit, into: []) { found, match, _ in found.append(match) }
    }
}
