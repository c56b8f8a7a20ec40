package import Foundation
import Registry

/// `.dcm-service.json` in both folders of an installed service: what was installed there, when, and from where.
package struct InstallationRecord: Codable, Sendable, Equatable {
    package static let fileName = ServiceCatalog.installationRecord

    /// The same in both folders; folders that differ come from an installation that was interrupted.
    package var id: String
    package var name: String
    package var version: String
    package var source: String
    package var installedAt: Date
    package var hasModule: Bool
    /// The router fails every run when they are gone later: a pre-service may have stood there.
    package var hasSettings: Bool?

    static func read(in folder: URL) -> InstallationRecord? {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        return (try? Data(contentsOf: folder.appendingPathComponent(fileName)))
            .flatMap { try? decoder.decode(InstallationRecord.self, from: $0) }
    }

    func write(in folder: URL) throws {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try FileSystem.write(try encoder.encode(self) + Data("\n".utf8), to: folder.appendingPathComponent(Self.fileName), mode: 0o644)
    }
}
