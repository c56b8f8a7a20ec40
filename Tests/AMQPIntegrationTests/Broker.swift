import AMQP
import Foundation
import Stack
import Testing

/// The broker of a test: the one that `DCM_TEST_AMQP_URL` names, or a private node that lives as long as the suite.
struct Broker: Sendable {
    @TaskLocal static var current: Broker?

    let uri: String
    /// Nil for a broker that is not ours to stop.
    let node: PrivateBroker?

    static var given: String? { ProcessInfo.processInfo.environment["DCM_TEST_AMQP_URL"] }
    static var isOurs: Bool { given == nil }
}

/// Starts the broker before the first test of the suite and stops it after the last.
struct BrokerTrait: SuiteTrait, TestScoping {
    func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void,
    ) async throws {
        if let uri = Broker.given {
            return try await Broker.$current.withValue(Broker(uri: uri, node: nil), operation: function)
        }
        try await PrivateBroker.withTemporary("amqp-tests") { node in
            try await Broker.$current.withValue(Broker(uri: node.amqpURL, node: node), operation: function)
        }
    }
}

extension Trait where Self == BrokerTrait {
    static var broker: Self { BrokerTrait() }
}

/// Tests with a real broker. Some of them stop it, so they run one after the other.
@Suite(.serialized, .timeLimit(.minutes(3)), .broker)
enum AMQPBrokerTests {}
