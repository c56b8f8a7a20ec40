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
    let broker = AMQPClient(configuration: try context.broker(), topology: PipelineTopology.ingest(), logger: context.logger)
    let ingest = IngestService(
        client: client,
        configuration: configuration,
        journal: journal,
        publisher: BrokerEventPublisher(client: broker),
        logger: context.logger,
        onFollowing: context.readiness.markReady
    )
    return [context.readiness, broker, ingest]
}
