"""What becomes of Ray Data's public names; docs/generate_data.py makes the table in data.md of it.

The names, their parameters and defaults are recorded by tests/compat/data_names.py. A name without a remark is here
under the same path, with these parameters and defaults; tests/compat/test_data_names.py holds that.
"""

from __future__ import annotations

OWN = "serves Ray's own code"
SERVICE = "is for a service that is not on a cluster's network"
TYPE = "is a type for annotations"
PLACE = "the names are in"

#: Names that exist and do less, or something else, than Ray's.
DIFFERS: dict[str, str] = {
    "ray.data.ActorPoolStrategy": "its text has the sizes alone",
    "ray.data.DataContext": "fields without a meaning here give a warning when they are set",
    "ray.data.Dataset": "is made of a plan; blocks are Arrow tables always",
    "ray.data.Dataset.drop_columns": "raises KeyError before a run only where the columns are known",
    "ray.data.Dataset.get_stats_summary": "is a `RunStats` of `hpc.data.exec.stats`",
    "ray.data.Dataset.iter_jax_batches": "`collate_fn` may be a plain function too",
    "ray.data.Dataset.to_modin": "the driver brings all rows together",
    "ray.data.Dataset.to_spark": "the driver brings all rows together; the session need not be one of RayDP",
    "ray.data.Dataset.stats": "has Ray's forms of lines, and what operators waited for; rows of a task are not told",
    "ray.data.Dataset.streaming_train_test_split": "each row goes by itself to one part, so the sizes vary a little",
    "ray.data.Dataset.write_delta": "columns of one name have one type in all blocks; no catalogs",
    "ray.data.Dataset.write_iceberg": "a filter that cannot be told exactly is an error; no catalogs but pyiceberg's",
    "ray.data.Dataset.write_lance": "no namespaces; a block with other columns than the first ones is an error",
    "ray.data.ExecutionResources": "negative amounts are as with Ray",
    "ray.data.FileShuffleConfig": "`get_seed` takes the number of the run",
    "ray.data.read_videos": "frames are decoded by PyAV, and not by decord",
    "ray.data.read_iceberg": "`limit` in scan_kwargs holds for all tasks together",
}

#: Names that do not exist, and why. One of a module or class holds for what is in it.
NO: dict[str, str] = {
    "ray.data.Catalog": SERVICE,
    "ray.data.CatalogAccessMode": SERVICE,
    "ray.data.ClickHouseTableSettings": SERVICE,
    "ray.data.DatabricksUnityCatalog": SERVICE,
    "ray.data.KafkaAuthConfig": SERVICE,
    "ray.data.ReaderFormat": SERVICE,
    "ray.data.ResolvedSource": SERVICE,
    "ray.data.catalog": SERVICE,
    "ray.data.checkpoint": "a write with `resume=True` goes on where it was broken off, without a column of ids",
    "ray.data.constants": OWN,
    "ray.data.exceptions": f"{PLACE} `hpc.exceptions`",
    "ray.data.from_mars": "Mars is not maintained",
    "ray.data.list_stats_summaries": "`Dataset.get_stats_summary` has what the last run says",
    "ray.data.random_access_dataset": "Ray has deprecated it",
    "ray.data.read_api": f"{PLACE} `hpc.data`",
    "ray.data.read_clickhouse": SERVICE,
    "ray.data.read_delta_sharing_tables": SERVICE,
    "ray.data.read_hudi": "there is no reader of its tables",
    "ray.data.read_kafka": SERVICE,
    "ray.data.read_lerobot": "there is no reader of its files",
    "ray.data.read_mongo": SERVICE,
    "ray.data.read_snowflake": SERVICE,
    "ray.data.read_unity_catalog": SERVICE,
    "ray.data.stats": f"{PLACE} `hpc.data.summary`",
    "ray.data.util": OWN,
    "ray.data.Dataset.map_batches_internal": OWN,
    "ray.data.Dataset.to_mars": "Mars is not maintained",
    "ray.data.Dataset.to_random_access_dataset": "Ray has deprecated it",
    **{
        f"ray.data.Dataset.write_{name}": SERVICE
        for name in ("bigquery", "clickhouse", "kafka", "mongo", "snowflake", "turbopuffer")
    },
    "ray.data.aggregate.AccumulatorType": TYPE,
    "ray.data.aggregate.AggOutputType": TYPE,
    "ray.data.aggregate.SupportsRichComparisonType": TYPE,
    "ray.data.aggregate.VectorizedAggregateFnV2": OWN,
    "ray.data.collate_fn.DataBatchType": TYPE,
    "ray.data.collate_fn.DefaultCollateFn": "iter_torch_batches without a collate_fn does what it does",
    "ray.data.collate_fn.is_tensor_batch_type": OWN,
    "ray.data.context.DEFAULT_SHUFFLE_STRATEGY": OWN,
    "ray.data.context.DeltaConfig": "a commit is tried as often as its package does, or five times",
    "ray.data.context.IcebergConfig": "a commit is tried as often as its package does, or five times",
    "ray.data.context.LanceConfig": "a commit is tried as often as its package does, or five times",
    "ray.data.dataset.CollatedData": TYPE,
    "ray.data.dataset.Schema": f"{PLACE} `hpc.data`",
    "ray.data.grouped_data.GroupedData": f"{PLACE} `hpc.data.grouped`",
    "ray.data.grouped_data.GroupedDataset": f"{PLACE} `hpc.data.grouped`",
    "ray.data.iterator.T": TYPE,
    "ray.data.preprocessor.SerializablePreprocessorBase": OWN,
    "ray.data.preprocessor.SerializationFormat": OWN,
    **{
        f"ray.data.preprocessors.{name}": f"{PLACE} `hpc.data.preprocessors`"
        for name in (
            "concatenator", "encoder", "hasher", "normalizer", "scaler", "tokenizer", "torch", "transformer", "utils",
            "vectorizer", "version_support",
        )
    },
    **{
        f"ray.data.datasource.{name}": OWN
        for name in (
            "BaseFileMetadataProvider", "Connection", "DefaultFileMetadataProvider", "DeltaSharingDatasource",
            "DummyOutputDatasink", "FileMetadataProvider", "LeRobotDatasource", "MCAPDatasource",
            "RandomIntRowDatasource", "Reader", "TimeRange", "TurbopufferDatasink", "datasink", "datasource",
            "file_based_datasource", "file_datasink", "file_meta_provider", "filename_provider", "partitioning",
            "path_util", "util",
        )
    },
}  # fmt: skip

#: Classes that lack some of the methods and attributes that Ray's have, and why.
MEMBERS: dict[str, str] = {
    "ray.data.BlockBasedFileDatasink": OWN,
    "ray.data.DataContext": "Ray has deprecated them, or they are for its own executor",
    "ray.data.DatasetSummary": OWN,
    "ray.data.Datasource": "Ray has deprecated them",
    "ray.data.ExecutionOptions": "Ray has removed it",
    "ray.data.Preprocessor": OWN,
    "ray.data.RandomSeedConfig": "`of_execution` gives the seed of a run",
    "ray.data.RowBasedFileDatasink": OWN,
    **{
        f"ray.data.aggregate.{name}": OWN
        for name in ("AbsMax", "AggregateFn", "ApproximateQuantile", "ApproximateTopK", "Count", "Max", "Mean", "Min",
                     "Std", "Sum")
    },
    "ray.data.context.ShuffleStrategy": "is another name of SHUFFLE_V2",
    "ray.data.datasource.FileBasedDatasource": OWN,
    "ray.data.datasource.FilenameProvider": "Ray has deprecated them",
    "ray.data.datasource.Partitioning": OWN,
    "ray.data.datasource.PathPartitionFilter": OWN,
    "ray.data.datasource.PathPartitionParser": OWN,
    "ray.data.datatype.DataType": "there is no cudf here",
    "ray.data.expressions.UDFExpr": OWN,
    **{
        f"ray.data.preprocessors.{name}": OWN
        for name in ("OneHotEncoder", "OrdinalEncoder", "RobustScaler", "StandardScaler", "TorchVisionPreprocessor")
    },
}  # fmt: skip

MADE = "a dataset is made of its plan"
#: Parameters of names that exist which are not taken, and why.
NOT_TAKEN: dict[tuple[str, str], str] = {
    **{
        (f"ray.data{module}", word): "it configures what is not here"
        for module in (".DataContext", ".DatasetContext", ".context.DataContext", ".context.DatasetContext")
        for word in (
            "lance_config", "iceberg_config", "delta_config", "issue_detectors_config",
            "custom_execution_callback_classes",
        )
    },
    **{
        (f"ray.data{name}", word): MADE
        for name in (".Dataset", ".dataset.Dataset", ".dataset.MaterializedDataset")
        for word in ("logical_plan", "in_stats", "cache", "dataset_name")
    },
    ("ray.data.aggregate.ValueCounter.combine", "new_accumulator"): "it has another name",
    ("ray.data.datasource.FileBasedDatasource", "meta_provider"): "Ray has deprecated it",
    ("ray.data.expressions.AliasExpr", "data_type"): "the type follows from the columns",
    ("ray.data.expressions.Expr", "data_type"): "the type follows from the columns",
    ("ray.data.expressions.LiteralExpr", "value"): "it is made by `lit`",
}  # fmt: skip

#: Parameters with another default than Ray's, and why.
OTHER_DEFAULTS: dict[tuple[str, str], str] = {}
