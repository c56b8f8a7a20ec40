import Foundation
import Jobs
import Logging
import Synchronization
import Testing

@testable import Orthanc

@Suite(.timeLimit(.minutes(1)))
struct ExportOwnershipTests {
    @Test("An export that is no longer ours changes no file: what somebody else has written since stays")
    func lost() async throws {
        let fixture = try ExportFixture([id(10): files(100..<110)])
        _ = try await fixture.run([10])
        // A later stage has changed the images; the export that was given up for dead would fetch them again.
        let changed = Data("de-identified".utf8)
        for number in 100..<110 { try changed.write(to: fixture.folder.appending(path: "\(id(10))/\(id(number)).dcm")) }
        let before = fixture.names()
        let asked = Mutex(0)
        let late = InstanceExport(client: try client(fixture.server.url), logger: Logger(label: "test")) {
            asked.withLock { $0 += 1 }
            return false
        }
        await #expect(throws: CancellationError.self) {
            try await late.run(level: .study, resourceID: FakeStudy.study, series: [id(10)], into: "run", of: fixture.root)
        }
        #expect(asked.withLock { $0 } > 0)
        #expect(fixture.names() == before)
        for number in 100..<110 { #expect(fixture.contents("\(id(10))/\(id(number)).dcm") == changed) }
    }
}
