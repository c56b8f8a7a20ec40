import Bootstrap

/// Where the endpoint listens, and for whom.
struct EndpointConfiguration: Sendable {
    var host = "127.0.0.1"
    /// 0: a free one.
    var port: Int
    /// nil: doorbell and hooks are open to all who reach the port, submitting to programs of this machine only.
    var token: String?
    /// Bytes of a request. Upstream's hooks post the header of every series of a patient, of which only the patient's id is read.
    /// A header of 2,000 frames has 3 MB.
    var bodyLimit = 16 << 20
    /// For one request, from its first byte to the answer.
    var requestLimit = Duration.seconds(30)
    /// How long a hook waits for its event. While Orthanc's Lua waits, Orthanc stands still.
    var hookLimit = Duration.seconds(1)
    var connectionLimit = 64
    /// Between two attempts to bind the address.
    var bindPause = Duration.seconds(5)

    init(host: String = "127.0.0.1", port: Int, token: String? = nil) {
        self.host = host
        self.port = port
        self.token = token
    }

    /// | variable | type, default | meaning |
    /// |---|---|---|
    /// | `INGEST_PORT` | 1-65535; unset: no endpoint | port of the endpoint |
    /// | `INGEST_HOST` | address; 127.0.0.1 | where it listens |
    /// | `INGEST_TOKEN` | text; none | what requests have to carry |
    ///
    /// - Returns: nil without a port.
    init?(settings: Settings) throws {
        guard settings.text("INGEST_PORT") != nil else { return nil }
        self.init(
            host: settings.text("INGEST_HOST") ?? "127.0.0.1",
            port: try settings.integer("INGEST_PORT", default: 0, in: 1...65535),
            token: settings.text("INGEST_TOKEN", isSecret: true)
        )
    }
}
