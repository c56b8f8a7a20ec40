import Foundation
import JobStore
import Testing

@testable import Dashboard

@Suite("Orthanc servers that ingest follows")
struct SourceTests {
    /// The last thing that it wrote down was that all is well.
    @Test("An ingest that has died follows nothing")
    func silence() {
        let now = Date(timeIntervalSince1970: 1_790_000_000)
        let followed = [0.0, 40, 50].map { age in
            IngestSource(server: "ct", state: .following, checkedAt: now.addingTimeInterval(-age)).isFollowed(at: now)
        }
        #expect(followed == [true, true, false])
        #expect(!IngestSource(server: "ct", state: .unavailable, checkedAt: now).isFollowed(at: now))
    }
}
