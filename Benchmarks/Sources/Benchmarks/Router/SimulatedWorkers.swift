import AMQP
import Foundation
import Jobs
import Pipeline

/// Workers whose jobs do nothing. Each has one slot: it takes a hint, claims it, reports success and only then acknowledges.
struct SimulatedWorkers: Sendable {
    let client: AMQPClient
    var count = 1

    /// Works while `body` runs.
    ///
    /// - Returns: the seconds that each claim took.
    @concurrent
    func work(while body: @Sendable () async throws -> Void) async throws -> [Double] {
        try await withThrowingTaskGroup(of: [Double].self) { group in
            for number in 0..<count {
                group.addTask { try await serve(number) }
                group.addTask {
                    do { try await beat(number) } catch  where Task.isCancelled { return [] }
                    return []
                }
            }
            try await body()
            group.cancelAll()
            return try await group.reduce(into: []) { $0 += $1 }
        }
    }

    /// - Returns: the seconds that each claim took.
    private func serve(_ number: Int) async throws -> [Double] {
        var seconds: [Double] = []
        do {
            try await client.consume(RouterSite.queue, prefetch: 1) { deliveries in
                for await delivery in deliveries {
                    let hint = try delivery.decode(HintMessage.self, type: HintMessage.type)
                    let began = ContinuousClock.now
                    let reply = try await claim(hint, worker: number)
                    seconds.append((ContinuousClock.now - began).inSeconds)
                    if case .go(let order) = reply { try await report(order, worker: number) }
                    delivery.ack()
                }
            }
        } catch  where Task.isCancelled {
            return seconds
        }
        return seconds
    }

    /// As workers do it; no lease of a job that takes no time needs it.
    private func beat(_ number: Int) async throws {
        let worker = WorkerInfo(
            id: "bench-\(number)", host: "bench", pid: 1, version: "0", slots: 1, channels: ["default"], startedAt: Date())
        while true {
            _ = try await client.call(
                .pipeline(
                    exchange: PipelineExchange.router, routingKey: PipelineKey.renew, type: RenewMessage.type,
                    body: RenewMessage(worker: worker, leases: []), persistent: false),
                timeout: .seconds(60))
            try await Task.sleep(for: .seconds(10))
        }
    }

    func claim(_ hint: HintMessage, worker: Int = 0) async throws -> ClaimReply {
        let claim = ClaimMessage(
            job: hint.job, attempt: hint.attempt, dispatch: hint.dispatch, worker: "bench-\(worker)", id: UUID().uuidString)
        let reply = try await client.call(
            .pipeline(
                exchange: PipelineExchange.router, routingKey: PipelineKey.claim, type: ClaimMessage.type, body: claim, persistent: false),
            timeout: .seconds(60))
        return try PipelineJSON.decode(ClaimReply.self, from: reply.body)
    }

    func report(_ order: JobOrder, worker: Int = 0) async throws {
        let exit = JobExit(
            outcome: .succeeded, kind: .completed, exitCode: 0, result: ["files": 3],
            usage: .init(wall: 0.1, user: 0.1, peakMemory: 1 << 26), startedAt: Date(), finishedAt: Date())
        let result = ResultMessage(
            job: order.job, attempt: order.attempt, token: order.token, worker: "bench-\(worker)", exit: exit)
        try await client.publish(
            .pipeline(exchange: PipelineExchange.router, routingKey: PipelineKey.result, type: ResultMessage.type, body: result))
    }
}
