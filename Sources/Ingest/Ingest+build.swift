import AMQP
import Bootstrap
import JobStore
import Orthanc
import Pipeline
import ServiceLifecycle

/// The services of the ingest process, dependencies first.
func buildIngest(_ context: ServiceContext) throws -> [any Service] {
    let configuration = try IngestConfiguration(settings: context.settings)
    let client = OrthancClient(endpoint: try OrthancEndpoint(settings: context.settings))
    let journal = try IngestJournal(folder: context.folders.state)
    var connection = try context.broker()
    // Short, so that the monitor soon shows that events wait; they are published again until the broker has them.
    connection.publishTimeout = .seconds(10)
    let broker = AMQPClient(configuration: connection, topology: PipelineTopology.ingest(), logger: context.logger)
    let ingest = IngestService(
        client: client,
        configuration: configuration,
        journal: journal,
        publisher: BrokerEventPublisher(client: broker),
        ledger: LedgerEventLookup(folder: context.folders.state),
        logger: context.logger,
        onFollowing: context.readiness.markReady
    )
    return [context.readiness, broker, ingest]
}
