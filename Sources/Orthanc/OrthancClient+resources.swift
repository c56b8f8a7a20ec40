package import Jobs

extension OrthancClient {
    package func system() async throws -> OrthancSystem {
        try await value(at: "/system")
    }

    /// The server's clock in UTC, `20260131T235959`: the clock of `lastUpdate`.
    package func now() async throws -> String {
        String(decoding: try await data("/tools/now"), as: UTF8.self)
    }

    /// Entries of the change log after `since`, in order.
    ///
    /// - Parameter kinds: the only ones to give; empty for all. Only where ``OrthancSystem/filtersChanges``: others answer with an error.
    package func changes(since: Int64, limit: Int, kinds: [OrthancChange.Kind] = []) async throws -> OrthancChanges {
        let filter = kinds.isEmpty ? "" : "&type=" + kinds.map(\.rawValue).joined(separator: ";")
        return try await value(at: "/changes?since=\(since)&limit=\(limit)\(filter)")
    }

    /// The newest entry of the change log and its number. After the log was emptied there is a number and no entry.
    package func lastChange() async throws -> OrthancChanges {
        try await value(at: "/changes?last")
    }

    package func patient(_ id: OrthancID) async throws -> OrthancPatient {
        try await value(at: "/patients/\(id)")
    }

    package func study(_ id: OrthancID) async throws -> OrthancStudy {
        try await value(at: "/studies/\(id)")
    }

    package func series(_ id: OrthancID) async throws -> OrthancSeries {
        try await value(at: "/series/\(id)")
    }

    package func studies(ofPatient id: OrthancID) async throws -> [OrthancStudy] {
        try await value(at: "/patients/\(id)/studies")
    }

    package func series(ofStudy id: OrthancID) async throws -> [OrthancSeries] {
        try await value(at: "/studies/\(id)/series")
    }

    package func instances(ofSeries id: OrthancID) async throws -> [OrthancInstance] {
        try await value(at: "/series/\(id)/instances")
    }

    /// One page of all patients, in Orthanc's order. Only an empty page is the end: before 1.12.5 what is deleted meanwhile leaves holes.
    package func patients(since: Int, limit: Int) async throws -> [OrthancPatient] {
        try await value(at: "/patients?expand&since=\(since)&limit=\(limit)")
    }

    package func studies(since: Int, limit: Int) async throws -> [OrthancStudy] {
        try await value(at: "/studies?expand&since=\(since)&limit=\(limit)")
    }

    package func series(since: Int, limit: Int) async throws -> [OrthancSeries] {
        try await value(at: "/series?expand&since=\(since)&limit=\(limit)")
    }

    /// The file-meta group by tag name.
    package func fileMeta(ofInstance id: OrthancID) async throws -> JSONValue {
        try await value(at: "/instances/\(id)/header?simplify")
    }

    /// The data set by tag number: `{"0008,0060": {"Name":, "Type":, "Value":, "PrivateCreator":?}}`.
    package func tags(ofInstance id: OrthancID) async throws -> JSONValue {
        try await value(at: "/instances/\(id)/tags")
    }

    /// What Orthanc computed when it stored the file, lower-case hexadecimal.
    /// - Returns: nil when it stored no checksum (`StoreMD5ForAttachments` is off), or has no such instance any more.
    package func md5(ofInstance id: OrthancID) async throws -> String? {
        let path = "/instances/\(id)/attachments/dicom/md5"
        do {
            let text = String(decoding: try await data(path), as: UTF8.self).lowercased()
            guard text.utf8.count == 32, text.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }) else {
                throw OrthancError(
                    .badResponse, server: endpoint.name, path: path,
                    message: "the answer is not an MD5 of 32 hexadecimal digits (\(text.utf8.count) bytes)"
                )
            }
            return text
        } catch let error as OrthancError where error.code == .notFound {
            return nil
        }
    }

    /// Writes the instance's DICOM file to an open descriptor, at its position.
    /// - Returns: bytes written.
    package func download(instance id: OrthancID, to descriptor: Int32, onBytes: (@Sendable (Int) -> Void)? = nil) async throws -> Int64 {
        try await download("/instances/\(id)/file", to: descriptor, onBytes: onBytes)
    }

    /// - Throws: ``OrthancError`` with `.invalidIdentifier` when `text` is not an Orthanc id. The text is not repeated: it may be anything.
    package func identifier(_ text: String) throws -> OrthancID {
        guard let id = OrthancID(rawValue: text) else {
            throw OrthancError(
                .invalidIdentifier, server: endpoint.name,
                message: "a text of \(text.utf8.count) bytes stands where an Orthanc id should be",
                cure: "Orthanc ids are five groups of eight hexadecimal digits; find them in the address bar of Orthanc Explorer."
            )
        }
        return id
    }
}
