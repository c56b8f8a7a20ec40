final class PublishRole: AMQPRole {
    let part = AMQPStatus.Part.publish
    private let publisher: ConfirmPublisher
    private let transient: TransientPublisher
    private let caller: Caller
    private let administrator = Administrator()
    let users: [ChannelUser]

    init(configuration: AMQPConfiguration, metrics: AMQPMetrics) {
        publisher = ConfirmPublisher(configuration: configuration, metrics: metrics)
        transient = TransientPublisher(configuration: configuration, metrics: metrics)
        caller = Caller(configuration: configuration)
        users = [publisher, transient, caller]
    }

    var isReady: Bool { users.allSatisfy(\.isReady) }
    var isIdle: Bool { publisher.isIdle && caller.isIdle && administrator.isIdle }

    func handle(_ command: AMQPCommand, link: AMQPLink?) {
        switch command {
        case .publish(let submission): publisher.submit(submission)
        case .publishTransient(let message): transient.publish(message, link: link)
        case .call(let call): caller.submit(call)
        case .declare(let topology, let deadline, let promise): administrator.declare(topology, deadline: deadline, promise)
        case .inspect(let queue, let deadline, let promise): administrator.inspect(queue, deadline: deadline, promise)
        case .startConsumer, .stopConsumer, .settle: break
        }
    }

    func work(_ link: AMQPLink, now: Instant) {
        // Calls first: somebody waits for each of them, and they are few.
        caller.work(link)
        administrator.work(link)
        publisher.work(link, now: now)
    }

    func expire(now: Instant, blockedReason: String?) {
        publisher.expire(now: now, blockedReason: blockedReason)
        caller.expire(now: now, blockedReason: blockedReason)
        administrator.expire(now: now, blockedReason: blockedReason)
    }

    var nextDeadline: Instant? {
        [publisher.nextDeadline, caller.nextDeadline, administrator.nextDeadline].compactMap(\.self).min()
    }

    func linkLost(_ error: AMQPError) { administrator.linkLost(error) }
    func beginDrain() {}

    func finish(_ error: AMQPError) {
        publisher.finish(error)
        caller.finish(error)
        administrator.finish(error)
    }
}
