import Foundation
import Stack
import Testing

/// One broker for a suite, because starting one takes seconds; each test gets a virtual host of its own.
struct SharedBroker: SuiteTrait, TestScoping {
    @TaskLocal static var current: PrivateBroker?

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        try await PrivateBroker.withTemporary("dcm-broker", management: true) { broker in
            try await Self.$current.withValue(broker) { try await function() }
        }
    }
}

extension Trait where Self == SharedBroker {
    static var sharedBroker: SharedBroker { SharedBroker() }
}

extension PrivateBroker {
    /// The management API, which answers in milliseconds where `rabbitmqctl` starts an Erlang machine.
    func manage(_ method: String, _ path: String) async throws {
        let url = try #require(managementURL.flatMap { URL(string: $0 + "/api" + path) }, "the broker was started without management")
        let credentials = LoopbackHTTP.Credentials.basic(user: user, password: password)
        var seen = "no answer"
        _ = try await until("\(method) \(path) is done") {
            // It listens a little later than the broker itself.
            let answer = try? await LoopbackHTTP.request(method, url, credentials: credentials, limit: .seconds(10))
            if let answer { seen = "status \(answer.status): \(String(decoding: answer.body, as: UTF8.self))" }
            return answer.flatMap { (200...299).contains($0.status) ? true : nil }
        } orShow: {
            seen
        }
    }
}
