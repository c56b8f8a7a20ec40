import Curl
package import Foundation

extension OrthancClient {
    package func series(ofPatient id: OrthancID) async throws -> [OrthancSeries] {
        try await value(at: "/patients/\(id)/series")
    }

    package func instance(_ id: OrthancID) async throws -> OrthancInstance {
        try await value(at: "/instances/\(id)")
    }

    /// The instance's DICOM file.
    /// - Parameters:
    ///   - expecting: bytes, so that they need not be moved while they arrive.
    ///   - limit: bytes; a longer answer is a ``OrthancError`` `.badResponse`.
    package func file(
        ofInstance id: OrthancID, expecting: Int64, limit: Int64, onBytes: (@Sendable (Int) -> Void)? = nil
    ) async throws -> Data {
        try await get("/instances/\(id)/file", into: .memory(limit: Int(limit), expecting: Int(expecting)), onBytes: onBytes).body
    }
}
