/// What went wrong between us and the broker.
///
/// A caller decides by ``code`` and ``isRetriable``; `message` is for people: it says what failed, where, the broker's own
/// words and the cure. It never holds a password or a message's body.
package struct AMQPError: Error, Sendable {
    /// A stable reason that code may switch over. More may be added.
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Value: String, Sendable {
            case invalidEndpoint, invalidMessage, authentication, accessRefused, topologyMismatch, notFound, connectionFailed
            case connectionLost, channelClosed, returned, nacked, timeout, cancelled, shutdown, unexpectedFrame, invalidTopology
        }
        private let value: Value
        private init(_ value: Value) { self.value = value }

        /// The URI of a broker cannot be used.
        package static let invalidEndpoint = Self(.invalidEndpoint)
        /// The message cannot be sent as it is (too large, a name over 255 bytes, a header table that cannot be written).
        package static let invalidMessage = Self(.invalidMessage)
        /// The topology asks for something that a broker of a version we support refuses; nothing was sent.
        package static let invalidTopology = Self(.invalidTopology)
        /// The broker refused the user or the password.
        package static let authentication = Self(.authentication)
        /// The user lacks a right (403), or another connection holds an exclusive queue (405).
        package static let accessRefused = Self(.accessRefused)
        /// An exchange or a queue exists with other properties (406); ``AMQPError/mismatch`` says which.
        package static let topologyMismatch = Self(.topologyMismatch)
        /// An exchange, a queue or a virtual host is missing (404, 530).
        package static let notFound = Self(.notFound)
        /// No connection could be made.
        package static let connectionFailed = Self(.connectionFailed)
        /// The connection ended while the outcome was open: the message may or may not have arrived.
        package static let connectionLost = Self(.connectionLost)
        /// The broker closed the channel; `replyCode` and `message` say why. The outcome of what was in flight is not known.
        package static let channelClosed = Self(.channelClosed)
        /// A mandatory message that no queue wanted.
        package static let returned = Self(.returned)
        /// The broker could not take responsibility for the message (internal error, or a full queue that rejects).
        package static let nacked = Self(.nacked)
        /// No answer in time.
        package static let timeout = Self(.timeout)
        /// The calling task was cancelled while it waited.
        package static let cancelled = Self(.cancelled)
        /// The client is stopping or has stopped.
        package static let shutdown = Self(.shutdown)
        /// The broker sent something that this point of the protocol does not allow.
        package static let unexpectedFrame = Self(.unexpectedFrame)

        package var description: String { value.rawValue }
    }

    /// What a caller decides by.
    package var code: Code
    /// For people: what failed, where, the broker's own words, the cure.
    package var message: String
    /// The broker's AMQP reply code (404, 406, ...), when it sent one.
    package var replyCode: Int?
    /// The method that the broker found at fault when it closed a channel or the connection; nil for none.
    package var method: Method?
    /// What a refused declaration (406) wanted and what there is, as far as the broker's text tells.
    package var mismatch: AMQPMismatch?
    /// Where in our code the error was made.
    package var file: String
    /// The line of `file`.
    package var line: Int

    /// A method of AMQP 0-9-1 by its two numbers, as `channel.close` and `connection.close` carry them.
    package struct Method: Sendable, Hashable, CustomStringConvertible {
        /// 10 connection, 20 channel, 40 exchange, 50 queue, 60 basic, 85 confirm.
        package var classID: Int
        /// The method's number within its class.
        package var methodID: Int

        package init(classID: Int, methodID: Int) {
            self.classID = classID
            self.methodID = methodID
        }

        /// The name that the protocol gives it, as `queue.declare`; the numbers for one that we do not know.
        package var description: String {
            Self.names[self] ?? "\(classID).\(methodID)"
        }
    }

    package init(
        _ code: Code,
        _ message: String,
        replyCode: Int? = nil,
        method: Method? = nil,
        mismatch: AMQPMismatch? = nil,
        file: String = #fileID,
        line: Int = #line,
    ) {
        self.code = code
        self.message = message
        self.replyCode = replyCode
        self.method = method
        self.mismatch = mismatch
        self.file = file
        self.line = line
    }

    /// Whether the same call may succeed later without anybody changing the message.
    package var isRetriable: Bool {
        switch code {
        case .connectionFailed, .connectionLost, .channelClosed, .returned, .nacked, .timeout, .notFound: true
        default: false
        }
    }
}

extension AMQPError: CustomStringConvertible {
    package var description: String {
        "\(code)\(replyCode.map { " \($0)" } ?? ""): \(message)"
    }
}

extension AMQPError.Method {
    private static let names: [Self: String] = {
        let classes: [(Int, String, [Int: String])] = [
            (10, "connection", [40: "open", 50: "close"]),
            (20, "channel", [10: "open", 20: "flow", 40: "close"]),
            (40, "exchange", [10: "declare", 20: "delete", 30: "bind", 40: "unbind"]),
            (50, "queue", [10: "declare", 20: "bind", 30: "purge", 40: "delete", 50: "unbind"]),
            (
                60, "basic",
                [10: "qos", 20: "consume", 30: "cancel", 40: "publish", 70: "get", 80: "ack", 90: "reject", 110: "recover", 120: "nack"]
            ),
            (85, "confirm", [10: "select"]),
        ]
        var names: [Self: String] = [:]
        for (classID, className, methods) in classes {
            for (methodID, name) in methods { names[Self(classID: classID, methodID: methodID)] = "\(className).\(name)" }
        }
        return names
    }()
}

extension AMQPError: Equatable {
    /// Where it was made does not count.
    package static func == (left: AMQPError, right: AMQPError) -> Bool {
        left.code == right.code && left.message == right.message && left.replyCode == right.replyCode && left.method == right.method
            && left.mismatch == right.mismatch
    }
}

extension AMQPError {
    /// Maps a broker's reply code. `context` says what we were doing; `text` is the broker's own sentence.
    static func broker(replyCode: Int, text: String, method: Method? = nil, context: String, fallback: Code) -> AMQPError {
        let code: Code =
            switch replyCode {
            case 403, 405: .accessRefused
            case 404: .notFound
            case 530: .notFound
            default: fallback
            }
        return AMQPError(
            code,
            "\(context): \(text)",
            replyCode: replyCode,
            method: method,
            mismatch: replyCode == 406 ? AMQPMismatch(text) : nil,
        )
    }
}

extension AMQPError {
    /// What was to be sent waited until its time was over.
    ///
    /// - Parameters:
    ///   - what: the beginning of the sentence: "The request was not sent".
    ///   - otherwise: why, when the broker is not blocked.
    static func notInTime(_ what: String, blockedReason: String?, otherwise: String = "there was no connection") -> AMQPError {
        let why = blockedReason.map { "the broker is blocked (\($0))" } ?? otherwise
        return AMQPError(.timeout, "\(what) in time: \(why).")
    }
}
