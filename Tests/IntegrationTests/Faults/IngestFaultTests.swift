import Foundation
import JobStore
import Jobs
import Stack
import Testing

/// Orthanc, the broker and ingest's own files are taken away, emptied and replaced under a running ingest: no study is missed, none is
/// taken twice.
@Suite(.serialized, .sharedBroker, .timeLimit(.minutes(5))) struct IngestFaultTests {
    /// Starts a router that declines what nobody wants, and an ingest.
    private func following(
        _ archive: PipelineProcesses.Archive = PipelineProcesses.Archive(), _ settings: [String: String] = [:],
        _ body: (PipelineProcesses, _ ingest: PipelineChild) async throws -> Void
    ) async throws {
        try await PipelineProcesses.with(archive: archive) { pipeline in
            try await pipeline.start(.router, nil, ["REGISTRY": pipeline.path("wanting")])
            let ingest = try await pipeline.start(.ingest, nil, settings)
            try await body(pipeline, ingest)
        }
    }

    // MARK: Orthanc

    /// W1: what was not stable when Orthanc stopped never gets its entry in the change log.
    @Test func whatOrthancForgotAtItsRestartIsFound() async throws {
        try await following(PipelineProcesses.Archive(stableAge: 2)) { pipeline, _ in
            let study = Arrivals.study(instances: 2)
            try await pipeline.send(study)
            try await pipeline.orthanc.restart()
            try await pipeline.account()
            let said = try await pipeline.stableStudies()
            let id = try await pipeline.id(of: study)
            #expect(!said.contains(id), "Orthanc was too slow to forget it: nothing was tested")
        }
    }

    @Test func anOrthancThatIsAwayAndAnEmptiedChangeLogCostNothing() async throws {
        try await following { pipeline, ingest in
            ingest.process.signal(SIGSTOP)
            let away = Arrivals.study()
            try await pipeline.send(away)
            try await pipeline.stable(away)
            await pipeline.orthanc.stop()
            ingest.process.signal(SIGCONT)
            try await ingest.waitUntilLogged("ingest waits")
            try await pipeline.orthanc.restart()
            try await ingest.waitUntilLogged("following again")

            ingest.process.signal(SIGSTOP)
            let emptied = Arrivals.study()
            try await pipeline.send(emptied)
            try await pipeline.stable(emptied)
            try await pipeline.orthanc.ask("DELETE", "/changes")
            ingest.process.signal(SIGCONT)
            try await pipeline.account()
        }
    }

    /// The database is one from a backup: first its log ends before the cursor, then it has grown beyond the cursor unseen.
    @Test func anOlderDatabaseIsComparedAsAWhole() async throws {
        try await following { pipeline, ingest in
            try await pipeline.sendAndWait(Arrivals.study())
            let storage = pipeline.folder.appending(path: "orthanc/Storage")
            let backup = pipeline.folder.appending(path: "backup")
            await pipeline.orthanc.stop()
            try FileManager.default.copyItem(at: storage, to: backup)
            try await pipeline.orthanc.restart()
            func restore() async throws {
                await pipeline.orthanc.stop()
                try FileManager.default.removeItem(at: storage)
                try FileManager.default.copyItem(at: backup, to: storage)
                try await pipeline.orthanc.restart()
            }

            let again = Arrivals.study()
            try await pipeline.sendAndWait(Arrivals.study())
            try await pipeline.sendAndWait(again)
            try await restore()
            try await ingest.waitUntilLogged("the change log is not the one that was read before")
            // It arrives at another time than before.
            try await pipeline.send([again, Arrivals.study()])
            try await pipeline.account(for: [again[0].study: 2])

            ingest.process.signal(SIGSTOP)
            let end = try await pipeline.orthanc.ask("GET", "/changes?last")["Last"]?.integer ?? 0
            try await restore()
            let unseen = try await pipeline.orthanc.ask("GET", "/changes?last")["Last"]?.integer ?? 0
            #expect(unseen < end)
            while try await pipeline.orthanc.ask("GET", "/changes?last")["Last"]?.integer ?? 0 <= end {
                let study = Arrivals.study()
                try await pipeline.send(study)
                try await pipeline.stable(study)
            }
            ingest.process.signal(SIGCONT)
            try await pipeline.account()
        }
    }

    /// What was deleted by a person, and what Orthanc itself deleted to make room.
    @Test func aRunWhoseStudyIsGoneSaysSo() async throws {
        try await following(PipelineProcesses.Archive(maximumPatients: 4)) { pipeline, ingest in
            let deleted = Arrivals.study(description: "wanted")
            let recycled = Arrivals.study(description: "wanted")
            var ids: [String] = []
            for study in [deleted, recycled] {
                try await pipeline.sendAndWait(study)
                ids.append(try await pipeline.id(of: study))
            }
            try await pipeline.orthanc.ask("DELETE", "/studies/\(ids[0])")
            for _ in 1...4 { try await pipeline.send(Arrivals.study()) }
            let left = (try await pipeline.orthanc.ask("GET", "/studies").array ?? []).compactMap(\.string)
            #expect(Set(left).isDisjoint(with: ids))
            // One that goes before its event.
            ingest.process.signal(SIGSTOP)
            let unseen = Arrivals.study()
            try await pipeline.send(unseen)
            try await pipeline.stable(unseen)
            let unseenID = try await pipeline.id(of: unseen)
            try await pipeline.orthanc.ask("DELETE", "/studies/\(unseenID)")
            ingest.process.signal(SIGCONT)

            try await pipeline.start(.worker)
            for id in ids {
                let run = try await pipeline.ended(id)
                let export = try #require(run.job("export"))
                #expect(run.run.state == .failed)
                #expect(export.state == .dead)
                #expect(run.attempts.last?.kind == JobExit.Kind.gone.rawValue, "\(run.attempts)")
                #expect(export.error?.type == "OrthancError.notFound", "\(String(describing: export.error))")
            }
            try await pipeline.account()
            #expect(ingest.process.isRunning)
        }
    }

    // MARK: Arrivals

    /// W26: Orthanc does not even mention an instance that it has already.
    @Test func theSameStudyAgainIsOneRunUnlessItIsOverwritten() async throws {
        for overwrites in [false, true] {
            try await following(PipelineProcesses.Archive(overwriteInstances: overwrites)) { pipeline, _ in
                let study = Arrivals.study(series: 2, instances: 2)
                try await pipeline.sendAndWait(study)
                try await pipeline.send(study)
                try await pipeline.account(for: [study[0].study: overwrites ? 2 : 1])
            }
        }
    }

    /// And two ingests by mistake: the router takes each state of a study once.
    @Test func studiesThatArriveInterleavedAreOneRunEachEvenWithTwoIngests() async throws {
        try await following { pipeline, _ in
            let second = try await pipeline.start(.ingest, "second")
            let studies = (1...20).map { _ in Arrivals.study(series: 2, instances: 3) }
            try await withThrowingTaskGroup(of: Void.self) { senders in
                for sender in 0..<3 {
                    // Each has every third instance of every study.
                    let images = (0..<6).filter { $0 % 3 == sender }.flatMap { index in studies.map { $0[index] } }
                    senders.addTask { try await pipeline.send(images) }
                }
                try await senders.waitForAll()
            }
            try await pipeline.account()
            #expect(second.process.isRunning)
        }
    }

    @Test func aSeriesOfTwoThousandImagesIsOneEvent() async throws {
        try await following { pipeline, _ in
            let study = Arrivals.study(instances: 2000)
            try await pipeline.send(study)
            let account = try await pipeline.account()
            let id = try await pipeline.id(of: study)
            #expect(account.events[id]?.first?.series.map(\.instances) == [2000])
        }
    }

    // MARK: Broker and journal

    @Test func eventsWaitForTheirBroker() async throws {
        try await following { pipeline, ingest in
            await pipeline.broker.kill()
            let studies = [Arrivals.study(), Arrivals.study()]
            try await pipeline.send(studies)
            try await pipeline.stable(studies[1])
            try await pipeline.broker.restart()
            try await pipeline.account()
            #expect(ingest.process.isRunning)
        }
    }

    /// Without a journal ingest begins anew: with `START=now` what is there is taken as known, but for what came a moment ago, with
    /// `START=all` all of it gets its event again. The router knows what it had.
    @Test(arguments: ["now", "all"]) func aDeletedJournalDoublesNothing(start: String) async throws {
        // A moment is 16 s.
        let settings = ["START": start, "DCM_PACE": "1"]
        try await following(PipelineProcesses.Archive(), settings) { pipeline, ingest in
            try await pipeline.sendAndWait(Arrivals.study())
            await ingest.kill()
            for name in try FileManager.default.contentsOfDirectory(atPath: pipeline.path("state")) where name.hasPrefix("ingest.") {
                try FileManager.default.removeItem(at: pipeline.folder.appending(path: "state/\(name)"))
            }
            let meanwhile = Arrivals.study()
            try await pipeline.send(meanwhile)
            try await pipeline.stable(meanwhile)
            try await pipeline.start(.ingest, "again", settings)
            try await pipeline.account()
        }
    }

    // MARK: Numbers

    /// How long after Orthanc's own word a run is there, and how often Orthanc is asked for it. Printed, because they depend on the machine.
    @Test func theTimeAndTheRequestsThatAStudyTakes() async throws {
        try await following { pipeline, _ in
            let studies = (1...60).map { _ in Arrivals.study(series: 2, instances: 2) }
            try await pipeline.orthanc.ask("PUT", "/tools/log-level", body: Data("verbose".utf8))
            let watch = Task { try await pipeline.watchStable(60) }
            for study in studies { try await pipeline.send(study) }
            let seen = try await watch.value
            let runs = try await until("each study has its run") {
                let runs = try await pipeline.ledger.runs(limit: 1000).items.filter { seen[$0.resourceID] != nil }
                return runs.count == seen.count ? runs : nil
            }
            let waits = runs.compactMap { run in seen[run.resourceID].map { run.createdAt.timeIntervalSince($0) * 1000 } }.sorted()
            let requests = pipeline.requests().filter { !$0.contains("/changes") && !$0.contains("/system") }
            // A page of a sweep is for all studies.
            let ofSweeps = requests.filter { $0.contains("/studies?") || $0.contains("/statistics") || $0.contains("/tools/now") }
            #expect(requests.count > ofSweeps.count)
            let perStudy = Double(requests.count - ofSweeps.count) / Double(studies.count)
            print(
                """
                Ingest: run created after the stable event, \(waits.count) studies, POLL_INTERVAL 0.1 s: median \(Int(waits[waits.count / 2])) ms, \
                p99 \(Int(waits[waits.count * 99 / 100])) ms; requests to Orthanc per study: \(perStudy), of sweeps in all: \(ofSweeps.count)
                """)
            try await pipeline.account()
        }
    }
}
