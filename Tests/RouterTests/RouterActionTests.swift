import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Bootstrap
@testable import Router

/// What operators do, through the router's commands and a real ledger.
@Suite struct RouterActionTests {
    let job = JobID(run: RouterBench.runID, index: 0).rawValue

    func started() async throws -> RouterBench {
        let bench = try RouterBench()
        let after = try await bench.commit(.event(RouterBench.event(), RouterBench.planned(), RouterBench.delivery()))
        try await bench.commit(.confirmed(after.rows))
        let service = ServiceRecord(
            name: "s", jobs: [JobDefinition(name: "a", service: "s", stage: .services, entry: "s.a")], problems: [])
        try await bench.commit(.services([service], channels: ["default"]))
        return bench
    }

    @Test func aRetryWithOtherParamsHandsThemOutAndSaysWhichKeys() async throws {
        let bench = try await started()
        let first = try #require(try await bench.commit(RouterBench.claim(0)).granted)
        try await bench.commit(RouterBench.result(first, .failed))
        let params: JSONValue = ["threshold": 0.5, "patient": "DOE^JANE"]
        let after = try await bench.commit(RouterBench.command(.retryJob, job, params: params))
        #expect(after.outcome == "done: other params (patient, threshold)")
        #expect(!after.facts.contains { $0.data.text.contains("DOE") })
        let second = try #require(try await bench.commit(RouterBench.claim(0, attempt: 2)).granted)
        #expect(second.definition.params == params && first.definition.params == .null)
        let stored = try await bench.job(0)
        #expect(stored?.definition.params == .null && stored?.changedParams == params)
    }

    @Test func aPausedServiceGetsNothingUntilItIsResumedAndOthersGoOn() async throws {
        let bench = try await started()
        let paused = try await bench.commit(RouterBench.command(.pauseService, "s"))
        #expect(paused.outcome == "done" && paused.facts.contains { $0.kind == "service.paused" })
        let refused = try await bench.commit(RouterBench.claim(0))
        #expect(refused.granted == nil && refused.refusal?.code == "service-paused")
        let held = try await bench.job(0)
        #expect(held?.state == .ready)
        // In one batch: what was paused a moment ago is paused for the claim behind it, and the other way round.
        let resumed = try await bench.commit(RouterBench.command(.resumeService, "s"), RouterBench.claim(0, dispatch: 1))
        #expect(resumed.outcome == "done" && resumed.hints.map(\.job.index) == [0] && resumed.granted != nil)
        let again = try await bench.commit(RouterBench.command(.resumeService, "s"))
        #expect(again.outcome == "refused: service 's' is not paused")
        let unknown = try await bench.commit(RouterBench.command(.pauseService, "dcm2nee"))
        #expect(unknown.outcome == "refused: the registry has no service 'dcm2nee'")
    }

    @Test func aDeadJobIsDiscardedWithAFactOfItsOwn() async throws {
        let bench = try await started()
        let alive = try await bench.commit(RouterBench.command(.discardJob, job))
        #expect(alive.outcome == "refused: Only a dead job can be discarded.")
        for attempt in 1...3 {
            let order = try #require(try await bench.commit(RouterBench.claim(0, attempt: attempt)).granted)
            try await bench.commit(.leaseExpired(.init(job: order.job, token: order.token)))
        }
        let after = try await bench.commit(RouterBench.command(.discardJob, job))
        #expect(after.outcome == "done")
        // Nobody who waits for jobs that die hears of it as one more.
        #expect(after.facts.map(\.kind) == ["job.discarded", "command.done"])
        let stored = try await bench.job(0)
        #expect(stored?.state == .dead && stored?.discarded?.actor == "anna")
    }

    @Test func whatAnOldPageAsksForIsNotDoneToALaterAttempt() async throws {
        let bench = try await started()
        for attempt in 1...2 {
            let order = try #require(try await bench.commit(RouterBench.claim(0, attempt: attempt)).granted)
            try await bench.commit(RouterBench.result(order, .failed))
            guard attempt == 1 else { break }
            let retried = try await bench.commit(RouterBench.command(.retryJob, job, attempt: 1))
            #expect(retried.outcome == "done")
        }
        let stale = try await bench.commit(RouterBench.command(.retryJob, job, params: ["x": 1], attempt: 1))
        #expect(stale.outcome == "refused: Job a is at attempt 2 by now, not at 1: look at it again.")
        let discard = try await bench.commit(RouterBench.command(.discardJob, job, attempt: 1))
        #expect(discard.outcome == stale.outcome)
        let kept = try await bench.job(0)
        #expect(kept?.state == .failed && kept?.changedParams == nil)
        let current = try await bench.commit(RouterBench.command(.retryJob, job, params: ["x": 1], attempt: 2))
        #expect(current.outcome == "done: other params (x)")
    }

    @Test func paramsAndAttemptOfAnActionThatTakesNoneAreNotIgnored() throws {
        func decode(_ rest: String) throws -> CommandMessage {
            let body = #"{"id": "c", "target": "x", "# + rest + "}"
            return try AMQPDelivery(properties: .pipeline(type: CommandMessage.type), body: Array(body.utf8)).decodeCommand()
        }
        #expect(throws: UndecodableMessage.self) { try decode(#""action": "rerun-job", "params": {"a": 1}"#) }
        #expect(throws: UndecodableMessage.self) { try decode(#""action": "retry-run", "attempt": 1"#) }
        let retry = try decode(#""action": "retry-job", "params": {"a": 1}, "attempt": 3"#)
        let discard = try decode(#""action": "discard-job", "attempt": 3"#)
        #expect(retry.params == ["a": 1] && retry.attempt == 3 && discard.attempt == 3)
    }

    @Test(arguments: [
        (PipelineQueue.claims, ClaimMessage.type, false), (PipelineQueue.claims, RenewMessage.type, false),
        (PipelineQueue.commands, CommandMessage.type, false), (PipelineQueue.ingest, EventMessage.type, true),
    ])
    func whatWasMeantForThatMomentIsNeverSentAgain(queue: String, type: String, isNote: Bool) {
        var headers: AMQPTable = [PipelineHeader.deadQueue: .string(queue)]
        if isNote { headers[PipelineHeader.deadNote] = true }
        let message = ParkedMessage(AMQPDelivery(routingKey: queue, properties: AMQPProperties(type: type, headers: headers), body: [1]))
        #expect(message.size == 1 && message.problem?.contains("iscard") == true)
        #expect(message.body == nil && message.properties == [:])
        #expect(throws: ParkedMessage.Obstacle.self) { try message.publishing.get() }
        guard !isNote else { return }
        // One whose body somebody kept all the same.
        var kept = message
        kept.body = [1]
        #expect(throws: ParkedMessage.Obstacle.self) { try kept.publishing.get() }
    }

    @Test func aParkedMessageKnowsWhereItCameFromAndGoesThereAgain() throws {
        let dead = AMQPDelivery(
            routingKey: "dcm.ingest.v1",
            properties: AMQPProperties(
                contentType: "application/json", type: "dcm.event.v1", messageID: "m", correlationID: "c",
                timestamp: Date(timeIntervalSince1970: 5),
                headers: [
                    PipelineHeader.deadReason: "not a JSON document", PipelineHeader.deadQueue: "dcm.ingest.v1", "x-own": 7,
                    "x-first-death-queue": "q", "x-death": [["queue": "dcm.ingest.v1"]],
                ]), body: [1, 2, 3])
        let message = ParkedMessage(dead)
        #expect(message.queue == "dcm.ingest.v1" && message.reason == "not a JSON document")
        let publishing = try message.publishing.get()
        #expect(publishing.exchange.isEmpty && publishing.routingKey == "dcm.ingest.v1" && publishing.mandatory)
        #expect(publishing.body == [1, 2, 3] && publishing.properties.headers == ["x-own": 7])
        #expect(publishing.properties.type == "dcm.event.v1" && publishing.properties.messageID == "m")
        #expect(publishing.properties.timestamp == Date(timeIntervalSince1970: 5) && publishing.properties.deliveryMode == .persistent)

        let rejected = ParkedMessage(
            AMQPDelivery(
                routingKey: "default",
                properties: AMQPProperties(headers: ["x-death": [["queue": "dcm.jobs.default.v1", "reason": "rejected"]]]), body: []))
        #expect(rejected.queue == "dcm.jobs.default.v1" && rejected.routingKey == "default" && rejected.reason == "rejected")
        // No way round to where it would be parked again at once, or out of the pipeline.
        for queue in [PipelineQueue.dead, PipelineQueue.deadRecord, "somebody.else"] {
            var other = message
            other.queue = queue
            #expect(throws: ParkedMessage.Obstacle.self) { try other.publishing.get() }
        }
    }
}

extension RouterBrokerTests {
    @Suite struct Pauses {
        private static func settings(_ name: String) -> String {
            #"{"jobName": "\#(name)", "worker": "\#(name).work", "callback": "\#(name).callback", "events": ["study"]}"#
        }

        /// Does what the router hands out of the channel until `last` is done.
        ///
        /// - Returns: the names of the jobs, in their order.
        private func work(_ stage: RouterStage, until last: String) async throws -> [String] {
            try await stage.client.consume(PipelineQueue.jobs(channel: "default"), prefetch: 1) { deliveries in
                var done: [String] = []
                for await delivery in deliveries {
                    let reply = try await stage.claim(try delivery.decode(HintMessage.self, type: HintMessage.type))
                    delivery.ack()
                    guard case .go(let order) = reply else { continue }
                    try await stage.report(order)
                    done.append(order.definition.name)
                    if order.definition.name == last { return done }
                }
                throw CancellationError()
            }
        }

        @Test("A paused service stays paused when the router starts again: its channel goes on without it, until it is resumed")
        func restart() async throws {
            try await RouterStage.with(services: ["free": Self.settings("free"), "held": Self.settings("held")]) { stage in
                try await stage.withRouter(RouterConfiguration()) {
                    // The registry is read before a service can be paused.
                    try await stage.publish(RouterStage.event("first"))
                    _ = try await RouterStage.until("it is planned") {
                        try await stage.reader.runs(LedgerRunFilter(event: "first"), limit: 1).items.first
                    }
                    try await stage.order(.pauseService, "held")
                    _ = try await RouterStage.until("the service is paused") {
                        try await stage.reader.services().first { $0.name == "held" }?.pause
                    }
                }
                try await stage.withRouter(RouterConfiguration()) {
                    let done = try await work(stage, until: "free")
                    #expect(done == ["export", "free"])
                    let listed = try await stage.reader.runs(LedgerRunFilter(event: "first"), limit: 1).items.first
                    let id = try #require(listed.flatMap { RunID(rawValue: $0.id) })
                    // With the end of the export both could have begun.
                    let run = try await RouterStage.until("the other one has ended") {
                        let run = try await stage.reader.run(id)
                        return run?.jobs.first { $0.definition.name == "free" }?.state == .succeeded ? run : nil
                    }
                    let index = try #require(run.jobs.firstIndex { $0.definition.name == "held" })
                    let held = run.jobs[index]
                    let reply = try await stage.claim(HintMessage(job: run.jobID(index), attempt: 1, dispatch: held.dispatch))
                    guard case .no(let reason) = reply else {
                        Issue.record("it was handed out")
                        return
                    }
                    #expect(reason.code == "service-paused")
                    let pause = try await stage.reader.services().first { $0.name == "held" }?.pause
                    #expect(pause?.actor == "zoe")
                    try await stage.order(.resumeService, "held")
                    let rest = try await work(stage, until: "held")
                    #expect(rest == ["held"])
                }
            }
        }
    }

    @Suite struct Parked {
        @Test("Messages that nobody could read are sent to their queues again; what has no queue any more stays, and none is lost")
        func requeue() async throws {
            try await RouterStage.with { stage in
                try await stage.withRouter(RouterConfiguration()) {
                    let open: @Sendable () async throws -> [LedgerDeadMessage] = {
                        try await stage.reader.deadMessages(limit: 9).items
                    }
                    // An event of a later version: unreadable to this one.
                    let body = PipelineJSON.encode(RouterStage.event("later", level: .series))
                    try await stage.client.publish(
                        AMQPPublishing(
                            exchange: PipelineExchange.ingest, routingKey: "series.stable", mandatory: true,
                            properties: .pipeline(type: "dcm.event.v2", messageID: "later"), body: body))
                    try await stage.client.publish(
                        AMQPPublishing(
                            exchange: PipelineExchange.deadLetter, routingKey: "dcm.jobs.gone.v1", mandatory: true,
                            properties: .pipeline(type: HintMessage.type), body: [1]))
                    let parked = try await RouterStage.until("both are parked") {
                        let found = try await open()
                        return found.count == 2 ? found : nil
                    }
                    let event = try #require(parked.first { $0.type == "dcm.event.v2" })
                    #expect(event.queue == PipelineQueue.ingest && event.reason.contains("dcm.event.v2"))
                    try await stage.order(.requeueMessage, "..\(parked.map(\.sequence).max() ?? 0)")
                    // Still unreadable: it comes again, as another one. The other has no queue to go to.
                    let after = try await RouterStage.until("one came again and one stayed") {
                        let found = try await open()
                        return found.count == 2 && found.contains { $0.sequence > event.sequence && $0.type == event.type }
                            && found.contains { $0.problem != nil } ? found : nil
                    }
                    let again = try #require(after.first { $0.type == "dcm.event.v2" })
                    let kept = try await stage.reader.body(ofDeadMessage: again.sequence)
                    #expect(kept == body)
                    let first = try #require(try await stage.reader.deadMessage(event.sequence))
                    #expect(first.state == .requeued && first.decidedBy == "zoe" && !first.hasBody)
                    for message in after { try await stage.order(.discardMessage, String(message.sequence)) }
                    _ = try await RouterStage.until("the list is empty") { try await open().isEmpty ? true : nil }
                }
            }
        }

        @Test("A message that can be read by now becomes a run, one, also when the last router stopped between confirm and settling")
        func stopped() async throws {
            try await RouterStage.with { stage in
                let body = PipelineJSON.encode(RouterStage.event("mended", level: .series))
                let message = ParkedMessage(
                    queue: PipelineQueue.ingest, routingKey: "series.stable", reason: "r", messageID: "mended", type: EventMessage.type,
                    body: body)
                do {
                    let ledger = try Ledger(folder: stage.state)
                    try await ledger.write { transaction in
                        try transaction.park(message, at: Date())
                        _ = try transaction.requeueParked(.one(1), by: "zoe", at: Date())
                    }
                }
                @Sendable func send(_ body: [UInt8]) async throws {
                    try await stage.client.publish(
                        AMQPPublishing(
                            exchange: "", routingKey: PipelineQueue.ingest, mandatory: true,
                            properties: .pipeline(type: EventMessage.type), body: body))
                }
                // What the last router had sent.
                try await send(body)
                try await stage.withRouter(RouterConfiguration()) {
                    _ = try await RouterStage.until("it is settled") {
                        try await stage.reader.deadMessage(1)?.state == .requeued ? true : nil
                    }
                    // Behind both of them.
                    try await send(PipelineJSON.encode(RouterStage.event("behind", level: .series)))
                    _ = try await RouterStage.until("the one behind is a run") {
                        try await stage.reader.runs(LedgerRunFilter(event: "behind"), limit: 1).items.first
                    }
                    let runs = try await stage.reader.runs(LedgerRunFilter(event: "mended"), limit: 5).items
                    #expect(runs.count == 1)
                    let open = try await stage.reader.deadMessages(limit: 5).items
                    #expect(open.isEmpty)
                }
            }
        }
    }
}
