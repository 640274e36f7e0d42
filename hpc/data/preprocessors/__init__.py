"""Preprocessors: what is fitted to a dataset, and applied to datasets and batches. The names of Ray Data."""

from hpc.data.preprocessor import Preprocessor, PreprocessorNotFittedException
from hpc.data.preprocessors.chain import Chain, TorchVisionPreprocessor
from hpc.data.preprocessors.discretizer import CustomKBinsDiscretizer, UniformKBinsDiscretizer
from hpc.data.preprocessors.encoders import Categorizer, LabelEncoder, MultiHotEncoder, OneHotEncoder, OrdinalEncoder
from hpc.data.preprocessors.imputer import SimpleImputer
from hpc.data.preprocessors.scalers import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from hpc.data.preprocessors.texts import CountVectorizer, HashingVectorizer, Tokenizer
from hpc.data.preprocessors.vectors import Concatenator, FeatureHasher, Normalizer, PowerTransformer

__all__ = [
    "Categorizer", "Chain", "Concatenator", "CountVectorizer", "CustomKBinsDiscretizer", "FeatureHasher",
    "HashingVectorizer", "LabelEncoder", "MaxAbsScaler", "MinMaxScaler", "MultiHotEncoder", "Normalizer",
    "OneHotEncoder", "OrdinalEncoder", "PowerTransformer", "Preprocessor", "PreprocessorNotFittedException",
    "RobustScaler", "SimpleImputer", "StandardScaler", "Tokenizer", "TorchVisionPreprocessor",
    "UniformKBinsDiscretizer",
]  # fmt: skip
