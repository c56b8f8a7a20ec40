package import Jobs

/// One entry of Orthanc's change log.
package struct OrthancChange: Sendable, Hashable, Decodable {
    /// Orthanc's names; new ones may appear with any release.
    package struct Kind: Sendable, Hashable, RawRepresentable, Decodable {
        package let rawValue: String

        package init(rawValue: String) {
            self.rawValue = rawValue
        }

        package static let stableSeries = Kind(rawValue: "StableSeries")
        package static let stableStudy = Kind(rawValue: "StableStudy")
        package static let stablePatient = Kind(rawValue: "StablePatient")
    }

    /// Grows within one database, with gaps: deleting a resource deletes its entries.
    package var sequence: Int64
    package var kind: Kind
    package var id: OrthancID
    /// Orthanc's clock in UTC, `20260131T235959`.
    package var date: String

    package init(sequence: Int64, kind: Kind, id: OrthancID, date: String) {
        self.sequence = sequence
        self.kind = kind
        self.id = id
        self.date = date
    }

    enum CodingKeys: String, CodingKey {
        case sequence = "Seq"
        case kind = "ChangeType"
        case id = "ID"
        case date = "Date"
    }

    /// The level whose becoming stable this entry tells; nil for every other kind.
    package var stableLevel: ResourceLevel? {
        switch kind {
        case .stableSeries: .series
        case .stableStudy: .study
        case .stablePatient: .patient
        default: nil
        }
    }
}

/// An answer of `/changes`.
package struct OrthancChanges: Sendable, Hashable, Decodable {
    package var changes: [OrthancChange]
    /// Whether there is nothing after these entries.
    package var isDone: Bool
    /// The last entry's sequence; of an empty page, the newest of the whole log.
    package var last: Int64

    package init(changes: [OrthancChange], isDone: Bool, last: Int64) {
        self.changes = changes
        self.isDone = isDone
        self.last = last
    }

    enum CodingKeys: String, CodingKey {
        case changes = "Changes"
        case isDone = "Done"
        case last = "Last"
    }
}
