import AMQP
import Foundation
import Jobs
import Testing

@testable import Pipeline

@Suite struct PipelineTests {
    let job = JobID(run: RunID(milliseconds: 1, random: (2, 3)), index: 4)

    @Test func aMessageComesBackAsItWasSent() throws {
        let hint = HintMessage(job: job, attempt: 2, dispatch: 3)
        let sent = AMQPPublishing.pipeline(
            exchange: PipelineExchange.jobs, routingKey: "default", type: HintMessage.type, body: hint, messageID: "m", priority: 4)
        #expect(sent.properties.deliveryMode == .persistent)
        #expect(sent.properties.priority == 4)
        let delivery = AMQPDelivery(properties: sent.properties, body: sent.body)
        #expect(try delivery.decode(HintMessage.self, type: HintMessage.type) == hint)
    }

    @Test(arguments: ["", "not json", "[]", "{}", #"{"job":"nonsense","attempt":1,"dispatch":1}"#, #"{"job":3,"attempt":1,"dispatch":1}"#])
    func whatIsNoHintIsUndecodableAndItsValuesStayOutOfTheReason(body: String) {
        let delivery = AMQPDelivery(properties: .pipeline(type: HintMessage.type), body: Array(body.utf8))
        let error = #expect(throws: UndecodableMessage.self) { try delivery.decode(HintMessage.self, type: HintMessage.type) }
        #expect(error?.reason.contains("nonsense") == false)
        #expect(error?.reason.isEmpty == false)
    }

    @Test func aMessageOfAnotherTypeIsUndecodable() {
        let delivery = AMQPDelivery(properties: .pipeline(type: "dcm.job.v99"), body: Array("{}".utf8))
        #expect(throws: UndecodableMessage.self) { try delivery.decode(HintMessage.self, type: HintMessage.type) }
    }

    @Test func aDeadLetterSaysWhyAndWhence() {
        let delivery = AMQPDelivery(properties: .pipeline(type: "x", priority: 4), body: [1, 2])
        let dead = AMQPPublishing.deadLetter(delivery, queue: "dcm.claims.v1", reason: "not a JSON document")
        #expect(dead.exchange == PipelineExchange.deadLetter)
        #expect(dead.body == [1, 2])
        #expect(dead.properties.headers[PipelineHeader.deadReason] == "not a JSON document")
        #expect(dead.properties.headers[PipelineHeader.deadQueue] == "dcm.claims.v1")
    }

    @Test func aChannelHasItsJobQueueAndItsDelays() {
        let topology = PipelineTopology.channel("gpu")
        #expect(
            topology.queues.map(\.name).sorted() == [
                "dcm.jobs.gpu.v1", "dcm.retry.gpu.10m.v1", "dcm.retry.gpu.1h.v1", "dcm.retry.gpu.2m.v1", "dcm.retry.gpu.30s.v1",
                "dcm.retry.gpu.5s.v1",
            ])
        let jobs = topology.queues.first { $0.name == "dcm.jobs.gpu.v1" }
        #expect(jobs?.arguments["x-max-priority"] == 4)
        #expect(topology.queues.allSatisfy { $0.arguments["x-queue-type"] == "classic" })
        // What expires comes back to the channel's own queue.
        for queue in topology.queues where queue.name.contains("retry") {
            #expect(queue.arguments["x-dead-letter-exchange"] == .string(PipelineExchange.jobs))
            #expect(queue.arguments["x-dead-letter-routing-key"] == "gpu")
        }
    }

    /// What RabbitMQ 4.x refuses must not be there: see AMQPTopology.check.
    @Test func everyTopologyPassesOnEveryVersionOfTheBroker() throws {
        let channels = ["cpu", "gpu"]
        let worker = PipelineTopology.worker(id: "w1", channels: channels)
        let all = PipelineTopology.ingest() + PipelineTopology.router(channels: channels) + worker + PipelineTopology.monitor()
        try all.check()
        #expect(all.queues.count > 10)
        #expect(all.queues.allSatisfy { $0.arguments["x-queue-type"] == "classic" })
    }

    @Test func twoServicesDeclareTheSameThingTheSameWay() {
        let all = [
            PipelineTopology.ingest(), .init(), PipelineTopology.router(channels: ["default"]),
            PipelineTopology.worker(id: "w", channels: ["default"]), PipelineTopology.monitor(),
        ]
        let queues = Dictionary(grouping: all.flatMap(\.queues), by: \.name)
        for (name, declarations) in queues { #expect(Set(declarations).count == 1, "\(name) is declared in two ways") }
    }

    @Test(arguments: [("default", true), ("gpu-1_a", true), ("", false), ("GPU", false), ("a.b", false), ("ä", false), ("a b", false)])
    func channelNames(name: String, isValid: Bool) { #expect(ChannelName.isValid(name) == isValid) }

    /// They expire while no router is there, and an outage is no dead letter.
    @Test func expiredClaimsAreNoDeadLetters() {
        for topology in [PipelineTopology.router(channels: []), PipelineTopology.worker(id: "w", channels: [])] {
            let claims = topology.queues.first { $0.name == PipelineQueue.claims }
            #expect(claims != nil)
            #expect(claims?.arguments["x-dead-letter-exchange"] == nil)
        }
    }

    @Test func aCommandNeedsOnlyWhatItCannotDoWithout() throws {
        func command(_ body: String, messageID: String? = nil) throws -> CommandMessage {
            try AMQPDelivery(properties: .pipeline(type: CommandMessage.type, messageID: messageID), body: Array(body.utf8)).decodeCommand()
        }
        let short = try command(#"{"action": "set-priority", "target": "x", "priority": "high"}"#, messageID: "m1")
        #expect(short.id == "m1")
        #expect(short.actor == "amqp")
        #expect(short.priority == "high")
        let whole = CommandMessage(id: "c", action: .rerunJob, target: "x", actor: "anna", at: Date(timeIntervalSince1970: 5))
        let sent = AMQPDelivery(properties: .pipeline(type: CommandMessage.type), body: PipelineJSON.encode(whole))
        #expect(try sent.decodeCommand() == whole)
        // Nothing that says which command it is: it could be carried out twice.
        #expect(throws: UndecodableMessage.self) { try command(#"{"action": "cancel-run", "target": "x"}"#) }
        #expect(throws: UndecodableMessage.self) { try command(#"{"id": "c", "action": "explode", "target": "x"}"#) }
        let long = String(repeating: "x", count: 257)
        #expect(throws: UndecodableMessage.self) { try command(#"{"id": "c", "action": "cancel-run", "target": "\#(long)"}"#) }
    }

    @Test func theClaimOfAMarkerIsNoJobsClaim() {
        let marker = HintMessage.marker(42)
        let claim = ClaimMessage(job: marker.job, attempt: marker.attempt, worker: "w", id: "c")
        #expect(claim.marker == 42)
        #expect(ClaimMessage(job: job, attempt: 42, worker: "w", id: "c").marker == nil)
    }
}
