import Foundation
import JobStore
import Jobs
import Logging
import Orthanc
import Synchronization

@testable import Ingest

/// An Orthanc of studies in memory, for faults that a real one does not show on demand.
final class FakeArchive: Sendable {
    struct Study: Sendable {
        /// Series -> instances, by the numbers that make their ids.
        var series: [Int: [Int]]
        var modalities: [Int: String] = [:]
        /// Series that this system has stored.
        var results: Set<Int> = []
        var lastUpdate = "20260101T000000"
        /// Series to which nothing has come since then.
        var old: [Int: String] = [:]
        var isStable = true
    }

    private struct Content {
        var system = #"{"Name":"x","Version":"1.10.1"}"#
        /// In Orthanc's order; nil stands for a study that was deleted while it was listed.
        var studies: [(number: Int, study: Study?)] = []
        var changes: [(sequence: Int, study: Int)] = []
        /// Numbering goes on after entries were deleted.
        var lastSequence = 0
        var intercept: (@Sendable (String) -> FakeOrthanc.Answer?)?

        mutating func tell(of study: Int) {
            lastSequence += 1
            changes.append((lastSequence, study))
        }
    }

    private let content = Mutex(Content())
    let folder = FileManager.default.temporaryDirectory.appending(path: "archive-\(UUID().uuidString)", directoryHint: .isDirectory)
    let events = RecordedEvents()

    static func with(_ body: (FakeArchive, FakeOrthanc, IngestJournal) async throws -> Void) async throws {
        let archive = FakeArchive()
        let server = try FakeOrthanc { archive.answer($0.path) }
        defer {
            server.stop()
            try? FileManager.default.removeItem(at: archive.folder)
        }
        try await body(archive, server, try IngestJournal(folder: archive.folder))
    }

    func follower(
        _ server: FakeOrthanc, _ journal: IngestJournal, ledger: LedgerEventLookup? = nil,
        _ change: (inout IngestConfiguration) -> Void = { _ in }
    ) throws -> SourceFollower {
        SourceFollower(
            client: try Self.client(server), configuration: Self.configuration(change), journal: journal, publisher: events,
            ledger: ledger, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// Follows while `body` runs.
    func followed<Result>(
        _ server: FakeOrthanc, _ journal: IngestJournal, name: String = "orthanc", publisher: (any EventPublishing)? = nil,
        _ change: (inout IngestConfiguration) -> Void = { _ in }, _ body: (FollowedServer) async throws -> Result
    ) async throws -> Result {
        let followed = FollowedServer(
            client: try Self.client(server, name: name), configuration: Self.configuration(change), journal: journal,
            publisher: publisher ?? events, ledger: nil, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let running = Task { await followed.run(onFollowing: {}) }
        do {
            let result = try await body(followed)
            running.cancel()
            await running.value
            return result
        } catch {
            running.cancel()
            await running.value
            throw error
        }
    }

    private static func client(_ server: FakeOrthanc, name: String = "orthanc") throws -> OrthancClient {
        var client = OrthancClient.Configuration()
        client.stallTimeout = .seconds(1)
        return OrthancClient(endpoint: try OrthancEndpoint(name: name, url: server.url), configuration: client)
    }

    private static func configuration(_ change: (inout IngestConfiguration) -> Void) -> IngestConfiguration {
        var configuration = IngestConfiguration()
        configuration.pollInterval = .milliseconds(10)
        configuration.sweepInterval = .seconds(3600)
        configuration.start = .all
        configuration.readAttempts = 2
        configuration.backoff = IngestConfiguration.Backoff(initial: .milliseconds(5), maximum: .milliseconds(10))
        change(&configuration)
        return configuration
    }

    /// What `/system` answers.
    func answerSystem(_ json: String) {
        content.withLock { $0.system = json }
    }

    /// A kind that makes no event.
    func storeOtherChange() {
        content.withLock { $0.tell(of: 0) }
    }

    func delete(_ number: Int) {
        content.withLock { content in
            content.studies.removeAll { $0.number == number }
            content.changes.removeAll { $0.study == number }
        }
    }

    /// Adds or replaces a study and tells of it in the change log.
    func store(_ number: Int, _ study: Study) {
        content.withLock { content in
            content.studies.removeAll { $0.number == number }
            content.studies.append((number, study))
            content.tell(of: number)
        }
    }

    /// Adds what stands in the list of resources and not in the change log.
    func storeSilently(_ number: Int, _ study: Study?) {
        content.withLock { $0.studies.append((number, study)) }
    }

    /// Asked before each answer; nil: the regular one.
    func intercept(_ body: (@Sendable (String) -> FakeOrthanc.Answer?)?) {
        content.withLock { $0.intercept = body }
    }

    private func answer(_ path: String) -> FakeOrthanc.Answer {
        let content = content.withLock { $0 }
        let (intercept, studies, changes, system) = (content.intercept, content.studies, content.changes, content.system)
        if let answer = intercept?(path) { return answer }
        let query = URLComponents(string: path)?.queryItems ?? []
        let number = { (name: String) in query.first { $0.name == name }?.value.flatMap { Int($0) } ?? 0 }
        let parts = (URLComponents(string: path)?.path ?? "").split(separator: "/").map(String.init)
        switch (parts.first, parts.count) {
        case ("system", 1): return .json(system)
        case ("tools", 2): return .json(OrthancTime.text(Date()))
        case ("changes", 1):
            let isLast = query.contains { $0.name == "last" }
            let type = query.first { $0.name == "type" }?.value
            // As Orthanc without the capability does.
            if type != nil, !system.contains("HasExtendedChanges") { return .status(400) }
            let wanted = changes.filter { type == nil || $0.study != 0 }
            let page = isLast ? changes.suffix(1) : wanted.filter { $0.sequence > number("since") }.prefix(number("limit"))
            let rows = page.map {
                let kind = $0.study == 0 ? "NewInstance" : "StableStudy"
                return #"{"Seq":\#($0.sequence),"ChangeType":"\#(kind)","ID":"\#(orthancID($0.study))","Date":"20260101T000000"}"#
            }
            let last = page.last?.sequence ?? content.lastSequence
            return .json(#"{"Changes":[\#(rows.joined(separator: ","))],"Done":true,"Last":\#(last)}"#)
        case ("studies", 1):
            let page = studies.dropFirst(number("since")).prefix(number("limit"))
            let rows = page.compactMap { entry in entry.study.map { Self.json(entry.number, $0) } }
            return .json("[\(rows.joined(separator: ","))]")
        case ("studies", _), ("series", _), ("instances", _):
            for entry in studies {
                if let study = entry.study, let answer = Self.answer(parts, entry.number, study) { return answer }
            }
            return .status(404)
        default: return .status(404)
        }
    }

    private static func answer(_ parts: [String], _ number: Int, _ study: Study) -> FakeOrthanc.Answer? {
        switch parts[0] {
        case "studies" where parts[1] == orthancID(number).rawValue:
            guard parts.count == 3 else { return .json(json(number, study)) }
            return .json("[\(study.series.keys.sorted().map { json(series: $0, number, study) }.joined(separator: ","))]")
        case "series":
            return study.series.keys.first { orthancID($0).rawValue == parts[1] }.map { .json(json(series: $0, number, study)) }
        case "instances":
            guard let series = study.series.first(where: { $0.value.contains { orthancID($0).rawValue == parts[1] } })?.key else {
                return nil
            }
            let modality = study.modalities[series] ?? "CT"
            let result = #","0405,1005":{"Name":"x","Type":"String","Value":"x","PrivateCreator":"DCM-PROCESSOR"}"#
            let tags =
                #"{"0008,0060":{"Name":"Modality","Type":"String","Value":"\#(modality)"}\#(study.results.contains(series) ? result : "")}"#
            return .json(parts[2] == "tags" ? tags : "{}")
        default: return nil
        }
    }

    private static func json(_ number: Int, _ study: Study) -> String {
        let series = study.series.keys.sorted().map { "\"\(orthancID($0))\"" }.joined(separator: ",")
        return #"{"ID":"\#(orthancID(number))","IsStable":\#(study.isStable),"LastUpdate":"\#(study.lastUpdate)","MainDicomTags":{},"#
            + #""ParentPatient":"\#(orthancID(0))","Series":[\#(series)]}"#
    }

    private static func json(series number: Int, _ studyNumber: Int, _ study: Study) -> String {
        let instances = (study.series[number] ?? []).map { "\"\(orthancID($0))\"" }.joined(separator: ",")
        return #"{"ID":"\#(orthancID(number))","IsStable":\#(study.isStable),"#
            + #""LastUpdate":"\#(study.old[number] ?? study.lastUpdate)","MainDicomTags":{},"#
            + #""ParentStudy":"\#(orthancID(studyNumber))","Instances":[\#(instances)]}"#
    }
}
