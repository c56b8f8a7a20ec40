import Foundation

/// DIR/run/desired.json: what `up` asks of the supervisor.
package struct StackRequest: Codable, Sendable, Equatable {
    /// Tells one request from the next.
    package var id: String
    package var workers: Int

    package init(workers: Int) {
        id = Secret.generate(length: 12)
        self.workers = workers
    }

    package static func read(_ home: StackHome) -> StackRequest? {
        (try? Data(contentsOf: home.desiredFile)).flatMap { try? JSONDecoder().decode(StackRequest.self, from: $0) }
    }

    package func write(_ home: StackHome) throws {
        try FileSystem.write(try JSONEncoder().encode(self), to: home.desiredFile)
    }
}

/// DIR/run/status.json: what the supervisor has to say.
package struct StackStatus: Codable, Sendable, Equatable {
    package var supervisor: Int32
    /// The last ``StackRequest`` that was carried out, or could not be.
    package var request: String?
    /// Why there is no stack at all.
    package var failure: String?
    package var notes: [String]
    /// The settings that this stack was started with, secrets left out.
    package var settings: [String: String]
    package var children: [ChildReport]

    package init(supervisor: Int32) {
        self.supervisor = supervisor
        notes = []
        settings = [:]
        children = []
    }

    package static func read(_ home: StackHome) -> StackStatus? {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        return (try? Data(contentsOf: home.statusFile)).flatMap { try? decoder.decode(StackStatus.self, from: $0) }
    }

    package func write(_ home: StackHome) throws {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try FileSystem.write(try encoder.encode(self), to: home.statusFile)
    }
}
