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
    @Suite struct Parked {
        @Test("Messages that nobody could read are sent to their queues again; what has no queue any more stays, and none is lost")
        func requeue() async throws {
            try await RouterStage.with { stage in
                try await stage.withRouter(RouterConfiguration()) {
                    let open: @Sendable () async throws -> [LedgerDeadMessage] = {
                        try await stage.reader.deadMessages(limit: 9).items
                    }
                    func order(_ action: CommandMessage.Action, _ target: String) async throws {
                        let command = CommandMessage(id: UUID().uuidString, action: action, target: target, actor: "zoe", at: Date())
                        try await stage.client.publish(
                            .pipeline(
                                exchange: PipelineExchange.router, routingKey: PipelineKey.command, type: CommandMessage.type, body: command
                            ))
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
                    try await order(.requeueMessage, "..\(parked.map(\.sequence).max() ?? 0)")
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
                    for message in after { try await order(.discardMessage, String(message.sequence)) }
                    _ = try await RouterStage.until("the list is empty") { try await open().isEmpty ? true : nil }
                }
            }
        }
    }
}
