import ArgumentParser
import Foundation
import Jobs
import Orthanc
import Stack
import Testing

@testable import DCM
@testable import Ingest

/// `./dcm submit` against ingest's endpoint.
@Suite("Submitting", .timeLimit(.minutes(2)))
struct SubmitTests {
    private static let ids = (0..<4).map { OrthancID(rawValue: "0123abcd-0123abcd-0123abcd-0123abcd-0123abc\($0)")! }

    @Test("Ids, a day or everything: one of them, and nothing that is none")
    func parsing() throws {
        let id = Self.ids[0].rawValue
        let command = try SubmitCommand.parse(["--level", "series", "--server", "main", "--again", "--rate", "2.5", id, id])
        #expect(command.ids == [id, id] && command.again && command.rate == 2.5 && command.level == "series" && command.server == "main")
        #expect(try SubmitCommand.parse(["--all"]).all)
        #expect(try SubmitCommand.parse(["--since", "2026-01-31"]).since == "2026-01-31")
        let refused: [([String], String)] = [
            ([], "--since DATE"), (["--all", id], "--since DATE"), (["--all", "--since", "2026-01-31"], "--since DATE"),
            (["1.2.840.113619"], "1.2.840.113619"), ([id.uppercased()], "hexadecimal"), (["--all", "--level", "scan"], "scan"),
            (["--all", "--rate", "0"], "--rate"), (["--since", "31.1.2026"], "31.1.2026"), (["--since", "yesterday"], "yesterday"),
        ]
        for (arguments, hint) in refused {
            do {
                _ = try SubmitCommand.parse(arguments)
                Issue.record("\(arguments) was taken")
            } catch {
                #expect(SubmitCommand.message(for: error).contains(hint))
            }
        }
        let day = try #require(SubmitCommand.date("2026-01-31"))
        #expect(Calendar.current.dateComponents([.day, .hour, .minute], from: day) == DateComponents(day: 31, hour: 0, minute: 0))
        #expect(SubmitCommand.date("2026-01-31T12:00:00Z") == Date(timeIntervalSince1970: 1_769_860_800))
    }

    @Test("Each is counted by what became of it, and the same name of a replay goes with all")
    func outcomes() async throws {
        let orthanc = ScriptedResources()
        orthanc.answerNext(.dispatched(snapshot: "1"), .known(snapshot: "2"), .filtered(Reason("modality", "It is OT.")), .notFound)
        try await RunningEndpoint.serving(orthanc, token: "t") { endpoint in
            let api = IngestAPI(base: endpoint.url, token: "t")
            let manner = IngestAPI.Manner(level: "series", replay: "once-more")
            let submitting = Submitting(submit: { try await api.submit($0, manner) }, rate: 1000)
            let tally = try await submitting.run(Self.ids.map { .init(id: $0.rawValue) }, isListed: false) { _ in }
            #expect(tally.dispatched == 1 && tally.known == 1 && tally.filtered == ["modality": 1] && tally.failed == 1)
            #expect(tally.summary.contains("4 of 4: 1 dispatched, 1 known, 1 filtered, 1 failed"))
            #expect(tally.summary.contains("\(Self.ids[3]): Orthanc has none with this id."))
            #expect(orthanc.requests.map(\.id) == Self.ids)
            #expect(orthanc.requests.allSatisfy { $0.level == .series && $0.replay == "once-more" })
            await #expect(throws: StackError.self) {
                _ = try await IngestAPI(base: endpoint.url, token: "wrong").submit(.init(id: Self.ids[0].rawValue), manner)
            }
            await #expect(throws: StackError.self) {
                _ = try await api.submit(.init(id: Self.ids[0].rawValue, server: "nobody"), manner)
            }
        }
    }

    @Test("What is listed is taken from all servers, once each; what is gone by then is no failure, what is away is tried again")
    func listed() async throws {
        let first = ScriptedResources("first", pages: [[Self.ids[0], Self.ids[1]], [], [Self.ids[1], Self.ids[2]]])
        let second = ScriptedResources("second", pages: [[Self.ids[0]]])
        first.answerNext(.failed(Reason("broker-timeout", "away")), .dispatched(snapshot: "1"), .notFound, .unstable)
        try await RunningEndpoint.serving(first, second) { endpoint in
            let api = IngestAPI(base: endpoint.url, token: nil)
            let resources = try await api.resources(level: "study", server: nil, since: Date(), onPage: { _ in })
            #expect(resources.map(\.server) == ["first", "first", "first", "second"])
            var submitting = Submitting(submit: { try await api.submit($0, .init()) })
            submitting.pauses = [.milliseconds(1), .milliseconds(1)]
            let tally = try await submitting.run(resources, isListed: true) { _ in }
            #expect(tally.dispatched == 2 && tally.gone == 1 && tally.unstable == 1 && tally.failed == 0 && tally.done == 4)
            #expect(second.requests.map(\.id) == [Self.ids[0]])
        }
    }

    @Test("To go on after --again, what is done is known under the same name")
    func goingOn() throws {
        let command = try SubmitCommand.parse(["--all", "--replay", "of-monday"])
        #expect(command.replay == "of-monday")
        #expect(SubmitCommand.advice(replay: "of-monday").contains("--replay of-monday"))
        #expect(SubmitCommand.advice(replay: nil) == "the same command again goes on, what is done is known then")
        #expect(throws: (any Error).self) { try SubmitCommand.parse(["--all", "--replay", String(repeating: "x", count: 65)]) }
    }

    @Test("When ingest is away, the rest is left after some failures, and that is said")
    func away() async throws {
        let api = IngestAPI(base: "http://127.0.0.1:\(try FreePorts.next())", token: nil)
        var submitting = Submitting(submit: { try await api.submit($0, .init()) })
        submitting.pauses = []
        submitting.patience = 2
        let tally = try await submitting.run(Self.ids.map { .init(id: $0.rawValue) }, isListed: false) { _ in }
        #expect(tally.failed == 2)
        #expect(tally.summary.contains("2 were not tried"))
    }
}
