import Curl
import Foundation
import Jobs

/// Asks one Orthanc server over its REST API. All requests are reads.
///
/// Every method throws ``OrthancError``, or `CancellationError` when its task is cancelled.
package final class OrthancClient: Sendable {
    package struct Configuration: Sendable {
        /// Requests at once; more wait in order.
        package var parallelism = 8
        package var connectTimeout = Duration.seconds(5)
        /// A request in which nothing arrives for so long has timed out.
        package var stallTimeout = Duration.seconds(30)
        /// Bytes of the largest answer that is kept in memory.
        package var memoryLimit = 64 << 20

        package init() {}
    }

    package let endpoint: OrthancEndpoint
    /// Requests at once.
    package var parallelism: Int { configuration.parallelism }
    private let configuration: Configuration
    private let session: CurlSession

    package init(endpoint: OrthancEndpoint, configuration: Configuration = Configuration()) {
        self.endpoint = endpoint
        self.configuration = configuration
        session = CurlSession(parallelism: configuration.parallelism)
    }

    /// The body of `path`, which starts with a slash and may carry a query.
    func data(_ path: String) async throws -> Data {
        try await get(path, into: .memory(limit: configuration.memoryLimit, expecting: 0)).body
    }

    func value<Value: Decodable>(_ type: Value.Type = Value.self, at path: String) async throws -> Value {
        let body = try await data(path)
        do {
            return try JSONDecoder().decode(type, from: body)
        } catch {
            // A value with an undeclared character set may make the answer ill-formed UTF-8: that must not lose a study.
            let repaired = Data(String(decoding: body, as: UTF8.self).utf8)
            if repaired != body, let value = try? JSONDecoder().decode(type, from: repaired) {
                return value
            }
            throw OrthancError(
                .badResponse, server: endpoint.name, path: path,
                message: "the answer is not the JSON that Orthanc gives here (\(body.count) bytes)"
            )
        }
    }

    /// Writes the body of `path` to `descriptor`, at its current position.
    /// - Returns: bytes written.
    func download(_ path: String, to descriptor: Int32, onBytes: (@Sendable (Int) -> Void)?) async throws -> Int64 {
        try await get(path, into: .file(descriptor: descriptor), onBytes: onBytes).received
    }

    func get(_ path: String, into sink: CurlRequest.Sink, onBytes: (@Sendable (Int) -> Void)? = nil) async throws -> CurlResponse {
        let request = CurlRequest(
            url: endpoint.url.absoluteString + path,
            user: endpoint.user,
            password: endpoint.password,
            sink: sink,
            connectTimeout: configuration.connectTimeout,
            stallTimeout: configuration.stallTimeout,
            onBytes: onBytes
        )
        let response: CurlResponse
        do {
            response = try await session.perform(request)
        } catch let failure as CurlFailure {
            throw OrthancError(failure, server: endpoint.name, path: path)
        }
        guard response.status == 200 else {
            throw OrthancError(status: response.status, server: endpoint.name, path: path)
        }
        return response
    }
}

extension OrthancError {
    init(_ failure: CurlFailure, server: String, path: String) {
        switch failure.kind {
        case .unreachable, .refusedAddress:
            self.init(.unreachable, server: server, path: path, message: "cannot be reached: \(failure.text)")
        case .timedOut:
            self.init(.timedOut, server: server, path: path, message: "did not answer in time: \(failure.text)")
        case .tls:
            self.init(.tls, server: server, path: path, message: "no secure connection: \(failure.text)")
        case .tooLarge(let limit):
            self.init(.badResponse, server: server, path: path, message: "the answer is larger than \(limit) bytes")
        case .sink(let number):
            self.init(
                .unwritable, server: server, path: path, message: "the local file cannot be written: \(String(cString: strerror(number)))",
                systemError: number
            )
        case .interrupted:
            self.init(.interrupted, server: server, path: path, message: "the connection broke: \(failure.text)")
        case .other:
            self.init(.badResponse, server: server, path: path, message: "the request failed: \(failure.text)")
        }
    }

    init(status: Int, server: String, path: String) {
        switch status {
        case 401, 403: self.init(.unauthorized, server: server, path: path, status: status, message: "refuses our user name and password")
        case 404: self.init(.notFound, server: server, path: path, status: status, message: "there is no such resource")
        case 500...: self.init(.serverFailure, server: server, path: path, status: status, message: "could not answer")
        default: self.init(.badResponse, server: server, path: path, status: status, message: "answered with an unexpected status")
        }
    }
}
