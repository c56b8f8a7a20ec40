/// What a connection is for. Everything here runs on the connection's thread.
protocol AMQPRole: AnyObject {
    typealias Instant = ContinuousClock.Instant

    var part: AMQPStatus.Part { get }
    /// Those who need a channel of their own now.
    var users: [ChannelUser] { get }
    /// Whether the connection counts as open: a consume connection does once its topology is there.
    var isReady: Bool { get }
    /// Whether nothing is in flight any more.
    var isIdle: Bool { get }

    func handle(_ command: AMQPCommand, link: AMQPLink?)
    /// Once a turn while connected: sends what may be sent.
    func work(_ link: AMQPLink, now: Instant)
    /// Once a turn, connected or not: answers what has waited too long.
    func expire(now: Instant, blockedReason: String?)
    var nextDeadline: Instant? { get }
    /// The link is gone, and with it every channel; the error says why.
    func linkLost(_ error: AMQPError)
    func beginDrain()
    /// The connection has ended for good: everything open gets this error.
    func finish(_ error: AMQPError)
}
