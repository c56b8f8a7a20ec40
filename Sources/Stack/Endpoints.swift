import Foundation

/// DIR/endpoints.json: how to reach a stack, for people and programs. Written again whenever a process id changes.
package struct Endpoints: Codable, Sendable, Equatable {
    /// Ids of what runs now; null for what is down.
    package struct Pids: Codable, Sendable, Equatable {
        package var broker: Int32?
        package var orthanc: Int32?
        package var ingest: Int32?
        package var router: Int32?
        package var monitor: Int32?
        package var workers: [Int32] = []

        package init() {}

        /// By hand, so that a process that is down is `null` and not a missing key.
        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(broker, forKey: .broker)
            try container.encode(orthanc, forKey: .orthanc)
            try container.encode(ingest, forKey: .ingest)
            try container.encode(router, forKey: .router)
            try container.encode(monitor, forKey: .monitor)
            try container.encode(workers, forKey: .workers)
        }
    }

    package var monitor: String
    /// API token with the operator role: `Authorization: Bearer <token>`.
    package var monitorToken: String
    /// Where Orthanc's hooks ring and `./dcm submit` submits; nil in the file of an older version.
    package var ingest: String?
    package var ingestToken: String?
    package var orthanc: String
    package var orthancDicomPort: UInt16
    package var orthancUser: String
    package var orthancPassword: String
    package var amqp: String
    package var rabbitmqManagement: String
    package var data: String
    package var registry: String
    package var modules: String
    package var logs: String
    package var state: String
    package var pids: Pids

    package init(home: StackHome, settings: StackSettings, secrets: StackSecrets, ports: StackPorts, broker: BrokerNode) {
        monitor = "http://\(Self.reachable(settings.monitorHost)):\(ports.monitor)"
        monitorToken = secrets.monitorToken
        ingest = "http://\(Self.reachable(settings.ingestHost)):\(ports.ingest)"
        ingestToken = secrets.ingestToken
        orthanc = "http://127.0.0.1:\(ports.orthanc)"
        orthancDicomPort = ports.dicom
        orthancUser = secrets.orthancUser
        orthancPassword = secrets.orthancPassword
        amqp = broker.amqpURL
        rabbitmqManagement = broker.managementURL
        data = home.data.path
        registry = home.registry.path
        modules = home.modules.path
        logs = home.logs.path
        state = home.state.path
        pids = Pids()
    }

    /// 0.0.0.0 is a place to listen, not one to connect to.
    static func reachable(_ host: String) -> String {
        ["0.0.0.0", "::", "*"].contains(host) ? "127.0.0.1" : host
    }

    /// Signs a browser in. The token stands behind `#`: browsers send that part to nobody, so it is in no log of a server or proxy.
    package var signInLink: String {
        "\(monitor)/sign-in#token=\(monitorToken.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")"
    }

    /// - Throws: ``StackError`` when there is no such file or it is none of ours.
    package static func read(_ home: StackHome) throws -> Endpoints {
        guard let data = try? Data(contentsOf: home.endpointsFile) else {
            throw StackError(.notFound, "There is no stack in \(home.folder.path): \(home.endpointsFile.path) cannot be read.")
        }
        do {
            return try JSONDecoder().decode(Endpoints.self, from: data)
        } catch {
            throw StackError(.badSetting, "\(home.endpointsFile.path) is not the file that a start writes: \(error).")
        }
    }

    /// Only the owner may read it: it holds passwords.
    package func write(_ home: StackHome) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try FileSystem.write(try encoder.encode(self) + Data("\n".utf8), to: home.endpointsFile, mode: 0o600)
    }
}
