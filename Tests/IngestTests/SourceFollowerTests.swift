import Foundation
import JobStore
import Jobs
import Logging
import Orthanc
import Pipeline
import Stack
import Testing

@testable import Ingest

/// Against the real Orthanc, with images sent by C-STORE.
@Suite(.timeLimit(.minutes(5)))
struct SourceFollowerTests {
    private typealias Slice = OrthancFixture.Slice

    private func slices(_ range: ClosedRange<Int>, study: String = "1", series: String = "1") -> [Slice] {
        range.map { Slice(study: study, series: series, instance: $0) }
    }

    @Test func aStudyIsOneEventAndItsGrowthAnother() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower()
            _ = try await follower.round()
            try await fixture.send(slices(1...4) + slices(1...2, series: "2"))
            try await follower.follow { fixture.events.all.count == 1 }
            let first = try #require(fixture.events.all.first)
            #expect(first.level == .study && first.filtered == nil && first.follows == nil && first.server == "orthanc")
            #expect(first.series.map(\.instances).sorted() == [2, 4])
            let tree = try #require(first.headers["studies"]?.array?.first)
            #expect(tree["id"]?.string == first.resourceID && first.headers["id"]?.string == first.resourceID)
            #expect(first.headers["tags"]?["PatientID"] == "P1" && first.headers["tags"]?["StudyInstanceUID"] == "1.2.3.1.1")
            #expect(tree["series"]?.array?.count == 2)
            #expect(tree["series"]?.array?.first?["tags"]?["Modality"] == "CT")
            #expect(tree["series"]?.array?.first?["tags"]?["MediaStorageSOPClassUID"] == "1.2.840.10008.5.1.4.1.1.2")
            #expect(first.headers["seriesIds"]?.array?.compactMap(\.string) == first.series.map(\.id))
            #expect(first.headers["dcmpath"] == nil)

            try await fixture.send(slices(3...3, series: "2"))
            try await follower.follow { fixture.events.all.count == 2 }
            let second = fixture.events.all[1]
            #expect(second.follows == first.snapshot && second.resourceID == first.resourceID)
            #expect(second.series.map(\.instances) == [3])

            try await follower.follow(for: .seconds(3))
            #expect(fixture.events.all.count == 2)
            let source = try #require(try await IngestJournal.readOnly(at: fixture.folder.appending(path: "state")).sources().first)
            #expect(source.state == .following && source.error == nil && source.lag == 0 && source.cursorSequence > 0)
        }
    }

    @Test func aRestartRepeatsNothing() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower()
            _ = try await follower.round()
            try await fixture.send(slices(1...2))
            try await follower.follow { fixture.events.all.count == 1 }
            var next = try fixture.follower()
            try await next.follow(for: .seconds(3))
            #expect(fixture.events.all.count == 1)
        }
    }

    @Test func seriesAndPatientsAreEventsWhereAsked() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower { $0.levels = [.series, .patient] }
            _ = try await follower.round()
            try await fixture.send(slices(1...2) + slices(1...1, study: "2", series: "9"))
            try await follower.follow { fixture.events.all.count == 3 }
            let series = try #require(fixture.events.all.first { $0.level == .series && $0.series.first?.instances == 2 })
            #expect(series.headers["Modality"] == "CT" && series.headers["seriesId"]?.string == series.resourceID)
            #expect(series.headers["studyId"]?.string?.count == 44 && series.headers["patientId"]?.string?.count == 44)
            #expect(series.headers["MediaStorageSOPClassUID"] == nil)
            let patient = try #require(fixture.events.all.first { $0.level == .patient })
            #expect(patient.headers["studies"]?.array?.count == 2 && patient.headers["studyIds"]?.array?.count == 2)
            #expect(patient.series.count == 2)
        }
    }

    @Test func whatOrthancForgotAtItsRestartIsFound() async throws {
        try await OrthancFixture.with(stableAge: 5) { fixture in
            var follower = try fixture.follower { $0.stableAge = 5 }
            _ = try await follower.round()
            try await fixture.send(slices(1...2))
            try await fixture.orthanc.restart()
            // Orthanc itself never tells of it.
            try await follower.follow { fixture.events.all.count == 1 }
            let log = try await fixture.client.changes(since: 0, limit: 1000)
            #expect(!log.changes.contains { $0.stableLevel != nil })
        }
    }

    @Test func theFirstStartLeavesTheOldAloneAndTakesTheYoung() async throws {
        try await OrthancFixture.with { fixture in
            try await fixture.send(slices(1...2, study: "1"))
            let client = try fixture.client
            try await poll(for: .seconds(10), orThrow: StackError(.timedOut, "never stable")) { () -> Bool? in
                try await client.changes(since: 0, limit: 100).changes.contains { $0.kind == .stableStudy } ? true : nil
            }
            // Older than StableAge + margin on Orthanc's clock.
            let oldest = try #require(try await client.studies(since: 0, limit: 10).first?.lastUpdate)
            try await poll(for: .seconds(10), orThrow: StackError(.timedOut, "never old")) { () -> Bool? in
                guard let now = OrthancTime.date(try await client.now()), let then = OrthancTime.date(oldest) else { return nil }
                return now.timeIntervalSince(then) >= 4 ? true : nil
            }
            try await fixture.send(slices(1...2, study: "2"))
            var follower = try fixture.follower()
            try await follower.follow { fixture.events.all.count == 1 }
            try await follower.follow(for: .seconds(3))
            #expect(fixture.events.all.map { $0.headers["tags"]?["StudyInstanceUID"] } == ["1.2.3.1.2"])

            // The old one grows: only what is new.
            try await fixture.send(slices(1...1, study: "1", series: "7"))
            try await follower.follow { fixture.events.all.count == 2 }
            #expect(fixture.events.all[1].series.map(\.instances) == [1] && fixture.events.all[1].follows == nil)
        }
    }

    @Test func everythingOldIsTakenWhenAsked() async throws {
        try await OrthancFixture.with { fixture in
            try await fixture.send(slices(1...2, study: "1") + slices(1...2, study: "2"))
            var follower = try fixture.follower { $0.start = .all }
            try await follower.follow { fixture.events.all.count == 2 }
        }
    }

    @Test func aBrokerThatRefusesLosesNothing() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower()
            _ = try await follower.round()
            fixture.events.refuse(3)
            try await fixture.send(slices(1...2))
            try await follower.follow { fixture.events.all.count == 1 }
            try await follower.follow(for: .seconds(2))
            #expect(fixture.events.all.count == 1)
        }
    }

    @Test func ownResultsAndRefusedSeriesAreFilteredEvents() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower { $0.filter.modalities = ["CT"] }
            _ = try await follower.round()
            try await fixture.send([
                Slice(study: "1", instance: 1, isOwnResult: true), Slice(study: "2", instance: 1, modality: "SR"),
                Slice(study: "3", instance: 1),
                Slice(study: "3", series: "2", instance: 1, modality: "SR"),
            ])
            try await follower.follow { fixture.events.all.count == 3 }
            let byStudy = Dictionary(
                uniqueKeysWithValues: fixture.events.all.map { ($0.headers["tags"]?["StudyInstanceUID"]?.string ?? "", $0) })
            #expect(byStudy["1.2.3.1.1"]?.filtered?.code == "own-result")
            #expect(byStudy["1.2.3.1.2"]?.filtered?.code == "modality")
            #expect(byStudy["1.2.3.1.3"]?.filtered == nil && byStudy["1.2.3.1.3"]?.series.count == 1)
            #expect(byStudy["1.2.3.1.3"]?.refusedSeries.values.map(\.code) == ["modality"])
        }
    }

    @Test func aWrongPasswordIsToldWithItsCureAndTriedAgain() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower(password: "wrong")
            try await follower.follow(for: .milliseconds(300))
            #expect(!follower.isFollowing)
            let reader = IngestJournal.readOnly(at: fixture.folder.appending(path: "state"))
            let source = try #require(try await reader.sources().first)
            #expect(source.state == .unavailable && source.error?.code == "orthanc-unauthorized")
            #expect(source.error?.text.contains("ORTHANC_REST_PASSWORD") == true && source.error?.text.contains("wrong") == false)
        }
    }

    @Test func orthancMayStopAndComeBack() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower()
            _ = try await follower.round()
            await fixture.orthanc.kill()
            try await follower.follow(for: .milliseconds(500))
            #expect(!follower.isFollowing)
            try await fixture.orthanc.restart()
            try await fixture.send(slices(1...2))
            try await follower.follow { fixture.events.all.count == 1 }
            #expect(follower.isFollowing)
        }
    }

    @Test func anotherDatabaseIsComparedAsAWhole() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower { $0.sweepInterval = .seconds(3600) }
            _ = try await follower.round()
            try await fixture.send(slices(1...2))
            try await follower.follow { fixture.events.all.count == 1 }
            // A journal that is ahead of the log, as after Orthanc's database was replaced by an older copy.
            try await fixture.send(slices(1...2, study: "2"))
            try await fixture.journal.save(
                cursor: IngestCursor(sequence: 1_000_000, resource: "x", date: "y"), server: "orthanc", at: Date())
            var next = try fixture.follower()
            try await next.follow { fixture.events.all.count == 2 }
            try await next.follow(for: .seconds(2))
            #expect(fixture.events.all.count == 2)
            let cursor = try #require(try await fixture.journal.cursor(of: "orthanc"))
            #expect(cursor.sequence < 1_000_000)
        }
    }

    @Test func anEmptiedLogIsMadeUpForByTheSweep() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower()
            _ = try await follower.round()
            try await fixture.send(slices(1...2))
            let client = try fixture.client
            try await poll(for: .seconds(10), orThrow: StackError(.timedOut, "never stable")) { () -> Bool? in
                try await client.changes(since: 0, limit: 100).changes.contains { $0.kind == .stablePatient } ? true : nil
            }
            try await fixture.delete("/changes")
            try await follower.follow { fixture.events.all.count == 1 }
        }
    }

    @Test func aDeletedStudyHoldsNothingUp() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower()
            _ = try await follower.round()
            try await fixture.send(slices(1...2, study: "1") + slices(1...2, study: "2"))
            let client = try fixture.client
            let study = try #require(try await client.studies(since: 0, limit: 1).first)
            try await fixture.delete("/studies/\(study.id)")
            try await follower.follow { fixture.events.all.count == 1 }
            #expect(follower.isFollowing)
        }
    }

    @Test func aDamagedFileHoldsNothingUp() async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower { $0.readAttempts = 2 }
            _ = try await follower.round()
            try await fixture.send(slices(1...2, study: "1"))
            let client = try fixture.client
            try await poll(for: .seconds(10), orThrow: StackError(.timedOut, "never stable")) { () -> Bool? in
                try await client.changes(since: 0, limit: 100).changes.contains { $0.kind == .stablePatient } ? true : nil
            }
            await fixture.orthanc.stop()
            let storage = fixture.folder.appending(path: "orthanc/Storage")
            for name in try FileManager.default.contentsOfDirectory(atPath: storage.path) where !name.hasPrefix("index") {
                try FileManager.default.removeItem(at: storage.appending(path: name))
            }
            try await fixture.orthanc.restart()
            try await fixture.send(slices(1...2, study: "2"))
            try await follower.follow { fixture.events.all.count == 1 }
            #expect(fixture.events.all.first?.headers["tags"]?["StudyInstanceUID"] == "1.2.3.1.2")
            try await follower.follow(for: .seconds(1))
            #expect(follower.isFollowing && fixture.events.all.count == 1)
        }
    }

    private static let charsets = URL(filePath: "/usr/lib/python3/dist-packages/pydicom/data/charset_files", directoryHint: .isDirectory)

    /// What the files hold, read by another program (pydicom) and by eye. Orthanc 1.10 itself cannot read `chrH32`, which shifts
    /// between two Japanese sets within one value.
    private static let names = [
        "chrArab": "قباني^لنزار", "chrFren": "Buc^Jérôme", "chrGerm": "Äneas^Rüdiger", "chrGreek": "Διονυσιος",
        "chrH31": "Yamada^Tarou=山田^太郎=やまだ^たろう", "chrHbrw": "שרון^דבורה",
        "chrI2": "Hong^Gildong=洪^吉洞=홍^길동", "chrJapMulti": "やまだ^たろう", "chrKoreanMulti": "김희중", "chrRuss": "Люкceмбypг",
        "chrX1": "Wang^XiaoDong=王^小東=", "chrX2": "Wang^XiaoDong=王^小东=",
    ]

    @Test(.enabled(if: FileManager.default.fileExists(atPath: charsets.path), "needs Debian's python3-pydicom"))
    func textInAnyCharacterSetIsData() async throws {
        try await OrthancFixture.with { fixture in
            for name in Self.names.keys.sorted() {
                try await fixture.upload(Data(contentsOf: Self.charsets.appending(path: "\(name).dcm")))
            }
            var follower = try fixture.follower { $0.start = .all }
            try await follower.follow { fixture.events.all.count == Self.names.count }
            var seen: Set<String> = []
            for event in fixture.events.all {
                let study = event.headers["tags"]?["PatientName"]?.string ?? ""
                let series = event.headers["studies"]?.array?.first?["series"]?.array?.first?["tags"]?["PatientName"]?.string
                #expect(series == study)
                seen.insert(study)
            }
            #expect(seen == Set(Self.names.values))
        }
    }

    @Test func imagesAreExportedAsOrthancHasThem() async throws {
        try await OrthancFixture.with { fixture in
            try await fixture.send(slices(1...5) + slices(1...3, series: "2"))
            let client = try fixture.client
            let study = try #require(try await client.studies(since: 0, limit: 1).first)
            let export = InstanceExport(client: client, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let target = fixture.folder.appending(path: "data/dicom/run", directoryHint: .isDirectory)
            let summary = try await export.run(
                level: .study, resourceID: study.id.rawValue, series: study.series.map(\.rawValue), into: "data/dicom/run",
                of: fixture.folder)
            #expect(summary.files == 8 && summary.unverified == 0)
            for series in study.series {
                for instance in try await client.series(series).instances {
                    let file = try Data(contentsOf: target.appending(path: "\(series)/\(instance).dcm"))
                    #expect(file.dropFirst(128).prefix(4) == Data("DICM".utf8))
                }
            }
            let again = try await export.run(
                level: .study, resourceID: study.id.rawValue, series: study.series.map(\.rawValue), into: "data/dicom/run",
                of: fixture.folder)
            #expect(again.resumed == 8 && again.fetchedBytes == 0)
        }
    }
}
