package import Jobs

/// `/system`.
package struct OrthancSystem: Sendable, Hashable, Decodable {
    package var name: String
    package var version: String
    /// Of the REST API; since 1.5.
    package var apiVersion: Int?
    /// Since 1.12.5; without them everything works as in 1.10.
    package var capabilities: Capabilities?

    package struct Capabilities: Sendable, Hashable, Decodable {
        /// Whether `/changes` takes `type=` and `to=`. It depends on the database, not on the version alone.
        package var hasExtendedChanges: Bool?

        enum CodingKeys: String, CodingKey {
            case hasExtendedChanges = "HasExtendedChanges"
        }
    }

    /// Whether `/changes` can leave out the kinds that nobody asked for.
    package var filtersChanges: Bool { capabilities?.hasExtendedChanges == true }

    enum CodingKeys: String, CodingKey {
        case name = "Name"
        case version = "Version"
        case apiVersion = "ApiVersion"
        case capabilities = "Capabilities"
    }
}

package struct OrthancPatient: Sendable, Hashable, Decodable {
    package var id: OrthancID
    /// Orthanc keeps what is unstable in memory only: after its restart everything reads as stable.
    package var isStable: Bool
    /// Orthanc's clock in UTC, `20260131T235959`; absent in databases of very old releases.
    package var lastUpdate: String?
    package var tags: JSONValue
    package var studies: [OrthancID]

    enum CodingKeys: String, CodingKey {
        case id = "ID"
        case isStable = "IsStable"
        case lastUpdate = "LastUpdate"
        case tags = "MainDicomTags"
        case studies = "Studies"
    }
}

package struct OrthancStudy: Sendable, Hashable, Decodable {
    package var id: OrthancID
    package var isStable: Bool
    package var lastUpdate: String?
    package var tags: JSONValue
    package var patientTags: JSONValue?
    package var patient: OrthancID
    package var series: [OrthancID]

    enum CodingKeys: String, CodingKey {
        case id = "ID"
        case isStable = "IsStable"
        case lastUpdate = "LastUpdate"
        case tags = "MainDicomTags"
        case patientTags = "PatientMainDicomTags"
        case patient = "ParentPatient"
        case series = "Series"
    }
}

package struct OrthancSeries: Sendable, Hashable, Decodable {
    package var id: OrthancID
    package var isStable: Bool
    package var lastUpdate: String?
    package var tags: JSONValue
    package var study: OrthancID
    /// In Orthanc's order; upstream calls the first one "the first instance".
    package var instances: [OrthancID]

    enum CodingKeys: String, CodingKey {
        case id = "ID"
        case isStable = "IsStable"
        case lastUpdate = "LastUpdate"
        case tags = "MainDicomTags"
        case study = "ParentStudy"
        case instances = "Instances"
    }
}

package struct OrthancInstance: Sendable, Hashable, Decodable {
    package var id: OrthancID
    /// Bytes of the DICOM file.
    package var fileSize: Int64
    /// Orthanc's name of the stored file: another one once the instance was replaced.
    package var fileUUID: String?
    package var series: OrthancID

    enum CodingKeys: String, CodingKey {
        case id = "ID"
        case fileSize = "FileSize"
        case fileUUID = "FileUuid"
        case series = "ParentSeries"
    }
}
